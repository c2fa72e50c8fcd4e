// LQ-2/1+6: four groups a cycle, first bit and first weight on top; the weights of a beat come three
// edges after it, when the next one is known; the last beat of a stream goes on with its first bits
module sliding_fixed_latency #(
  parameter int BEATS = 6  // per stream
) (
  input  logic clk,
  input  logic rst_n,
  input  logic bypass,
  input  logic [7:0] bits_i,
  output logic signed [3:0][10:0] weights_o
);
  typedef logic signed [10:0] weight_t;

  // one weight from its eight bits, the first on top
  function automatic weight_t weight(input logic [7:0] w);
    localparam weight_t TAPS [8] = '{-117, 125, 69, 57, 67, -66, 119, 121};
    weight_t sum = '0;
    for (int j = 0; j < 8; j++) sum += w[7 - j] ? TAPS[j] : -TAPS[j];
    return sum;
  endfunction

  logic [7:0] current, head;
  logic [$clog2(BEATS)-1:0] place;  // of `current` in its stream
  logic signed [3:0][10:0] sums;
  logic [13:0] window;

  wire last = place == $bits(place)'(BEATS - 1);
  wire [7:0] following = last ? head : bits_i;
  assign window = {current, following[7:2]};

  always_ff @(posedge clk) begin
    current <= bits_i;
    if (!rst_n) place <= $bits(place)'(BEATS - 1);
    else place <= last ? '0 : place + 1'b1;
    if (last) head <= bits_i;
    for (int n = 0; n < 4; n++) sums[3 - n] <= weight(window[13 - 2 * n -: 8]);
    weights_o <= bypass ? '0 : sums;
  end
endmodule
