// LQ-16/8: 32-bit words in, two groups each; 16 weights out, sign-extended to 16 bits; valid only,
// two register stages, reset asynchronous
module block_valid_only(
  input wire clock,
  input wire areset,
  input wire [31:0] word,
  input wire word_valid,
  output reg [255:0] sums,
  output wire sums_valid
);
  reg [7:0] taps [0:127];
  initial $readmemh("lq_16_8_taps.mem", taps);

  reg [1:0] pending;
  reg [31:0] held;
  assign sums_valid = pending[1];

  integer half, i, j;
  reg signed [15:0] sum;
  always @(posedge clock or posedge areset)
    if (areset) pending <= 2'b00;
    else pending <= {pending[0], word_valid};

  always @(posedge clock) begin
    held <= word;
    for (half = 0; half < 2; half = half + 1)
      for (i = 0; i < 8; i = i + 1) begin
        sum = 16'sd0;
        for (j = 0; j < 16; j = j + 1)
          if (held[16 * half + j]) sum = sum + $signed(taps[16 * i + j]);
          else sum = sum - $signed(taps[16 * i + j]);
        sums[16 * (8 * half + i) +: 16] <= sum;
      end
  end
endmodule
