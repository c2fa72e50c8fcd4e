// LQ-16/8: a group of 16 bits in, 8 weights of 12 bits out; ready/valid, one register stage
module block_ready_valid(
  input clk, input rst,
  input [15:0] group, input group_valid, output group_ready,
  output reg [95:0] weights, output reg weights_valid, input weights_ready
);
`include "lq_16_8_taps.vh"

  function [11:0] weight(input [15:0] bits, input integer i);
    integer j;
    reg signed [11:0] sum;
    reg signed [7:0] tap;
    begin
      sum = 0;
      for (j = 0; j < 16; j = j + 1) begin
        tap = TAPS[8 * (16 * i + j) +: 8];
        sum = bits[j] ? sum + tap : sum - tap;
      end
      weight = sum;
    end
  endfunction

  assign group_ready = !weights_valid || weights_ready;

  integer n;
  always @(posedge clk)
    if (rst) weights_valid <= 1'b0;
    else if (group_ready) begin
      weights_valid <= group_valid;
      for (n = 0; n < 8; n = n + 1) weights[12 * n +: 12] <= weight(group, n);
    end
endmodule
