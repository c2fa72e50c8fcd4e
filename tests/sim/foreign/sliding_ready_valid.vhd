library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;

entity sliding_ready_valid is
  generic (N : positive := 48);  -- weights in a stream
  port (
    clk, rst_n : in std_logic;
    s_data : in std_logic_vector(31 downto 0);
    s_valid : in std_logic;
    s_ready : out std_logic;
    m_data : out std_logic_vector(11 downto 0);
    m_valid : out std_logic;
    m_ready : in std_logic
  );
end entity;

architecture rtl of sliding_ready_valid is
  constant WORDS : positive := (2 * N + 31) / 32;
  type tap_list is array (0 to 7) of integer range -127 to 127;
  constant TAPS : tap_list := (-117, 125, 69, 57, 67, -66, 119, 121);
  signal held : std_logic_vector(32 * WORDS - 1 downto 0);  -- the stream, its next bit lowest
  signal taken : unsigned(7 downto 0) := (others => '0');
  signal left : unsigned(7 downto 0) := (others => '0');  -- weights still to give
begin
  s_ready <= '1' when left = 0 else '0';
  m_valid <= '1' when left /= 0 else '0';

  process (held)
    variable sum : signed(11 downto 0);
  begin
    sum := (others => '0');
    for j in TAPS'range loop
      if held(j) = '1' then
        sum := sum + TAPS(j);
      else
        sum := sum - TAPS(j);
      end if;
    end loop;
    m_data <= std_logic_vector(sum);
  end process;

  process (clk)
  begin
    if rising_edge(clk) then
      if rst_n = '0' then
        taken <= (others => '0');
        left <= (others => '0');
      elsif s_valid = '1' and left = 0 then
        held <= s_data & held(held'high downto 32);
        if taken = WORDS - 1 then
          taken <= (others => '0');
          left <= to_unsigned(N, 8);
        else
          taken <= taken + 1;
        end if;
      elsif left /= 0 and m_ready = '1' then
        -- tail-biting: the first bits come round again
        held <= held(1 downto 0) & held(held'high downto 2);
        left <= left - 1;
      end if;
    end if;
  end process;
end architecture;
