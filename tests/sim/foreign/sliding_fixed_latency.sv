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
  // one weight from its eight bits, the first on top
  function automatic logic signed [10:0] weight(input logic [7:0] w);
    logic signed [10:0] sum;
    sum  = w[7] ? -11'sd117 : 11'sd117;
    sum += w[6] ? 11'sd125 : -11'sd125;
    sum += w[5] ? 11'sd69 : -11'sd69;
    sum += w[4] ? 11'sd57 : -11'sd57;
    sum += w[3] ? 11'sd67 : -11'sd67;
    sum += w[2] ? -11'sd66 : 11'sd66;
    sum += w[1] ? 11'sd119 : -11'sd119;
    sum += w[0] ? 11'sd121 : -11'sd121;
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
