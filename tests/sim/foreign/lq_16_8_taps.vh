// taps of LQ-16/8: tap j of weight i is TAPS[8*(16*i + j) +: 8]; the lists below run backwards
localparam [1023:0] TAPS = {
  8'sd5, 8'sd34, -8'sd2, -8'sd64, 8'sd10, 8'sd31, -8'sd12, -8'sd19, 8'sd74, 8'sd35, -8'sd12, 8'sd46, 8'sd34, -8'sd18, 8'sd5, 8'sd24,
  8'sd73, 8'sd52, -8'sd34, 8'sd33, -8'sd2, 8'sd38, 8'sd25, -8'sd42, 8'sd10, 8'sd7, 8'sd33, -8'sd46, -8'sd16, 8'sd5, -8'sd6, 8'sd19,
  8'sd13, 8'sd44, 8'sd23, -8'sd36, 8'sd7, -8'sd7, -8'sd9, 8'sd18, -8'sd19, -8'sd29, 8'sd47, 8'sd1, -8'sd31, -8'sd72, 8'sd49, -8'sd41,
  8'sd15, -8'sd40, 8'sd26, 8'sd18, -8'sd66, 8'sd33, -8'sd6, -8'sd29, 8'sd34, -8'sd57, -8'sd14, -8'sd6, 8'sd31, -8'sd48, -8'sd16, -8'sd14,
  -8'sd10, 8'sd4, -8'sd34, 8'sd17, 8'sd34, 8'sd51, -8'sd63, 8'sd4, 8'sd9, -8'sd26, -8'sd62, -8'sd6, -8'sd64, -8'sd16, -8'sd3, -8'sd6,
  -8'sd31, 8'sd22, -8'sd51, 8'sd25, -8'sd43, -8'sd55, -8'sd26, 8'sd3, 8'sd35, -8'sd19, 8'sd3, -8'sd16, 8'sd2, -8'sd9, 8'sd55, 8'sd54,
  8'sd39, -8'sd16, 8'sd22, -8'sd16, -8'sd35, -8'sd16, -8'sd24, 8'sd73, 8'sd26, 8'sd54, -8'sd8, -8'sd48, -8'sd25, -8'sd21, -8'sd26, 8'sd19,
  -8'sd29, 8'sd9, -8'sd42, -8'sd34, 8'sd1, -8'sd11, -8'sd53, -8'sd14, 8'sd13, -8'sd3, 8'sd46, -8'sd42, 8'sd28, 8'sd23, -8'sd50, -8'sd54
};
