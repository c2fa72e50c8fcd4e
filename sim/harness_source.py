"""The C++ of a compiled harness: drives a Verilator model, collects, compares integers.

The expected integers come from outside, together with the words, on standard input: nothing here
knows what a code is. The loop is that of `sim.bench`: inputs are set with the clock low, the design
settles, handshakes are read, then comes the clock edge.
"""

from hw.geometry import Geometry

PREFIX = "Vdut"  # of the classes that Verilator makes
TURN_STREAMS = 8  # after so many streams other sides stall; none does in the first ones


def harness_source(geometry: Geometry) -> str:
    """The program for decoders of `geometry`, whose ports are named as `hw.export` names them."""
    sizes = {
        "STREAM_WORDS": geometry.stream_words,  # as stored
        "BEAT_WORDS": geometry.beat_words,  # of an input payload
        "BEATS_IN": geometry.beats_in,  # per stream
        "BEATS_OUT": geometry.beats_out,
        "STREAM_WEIGHTS": geometry.groups * geometry.code.group,
        "BEAT_WEIGHTS": geometry.lanes * geometry.code.group,
        "WEIGHT_BITS": geometry.output.width,
        "PAYLOAD_BITS": geometry.payload_bits,
        "TURN_STREAMS": TURN_STREAMS,
    }
    constants = "".join(f"constexpr size_t {name} = {value};\n" for name, value in sizes.items())
    return f'#include "{PREFIX}.h"\n{_INCLUDES}\n{constants}{_BODY}'


_INCLUDES = """#include "verilated.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>
"""

# Verilator writes two underscores of a name as ___05F
_BODY = r"""
constexpr size_t PAYLOAD_WORDS = (PAYLOAD_BITS + 31) / 32;
constexpr size_t MOST_IN_FLIGHT = 4096;  // streams taken and not given back

// which side stalls, by turns of so many streams
struct Phase { bool in, out; };
constexpr Phase PHASES[] = {{false, false}, {true, false}, {false, true}, {true, true}};

static Phase phase_of(uint64_t stream) { return PHASES[stream / TURN_STREAMS % 4]; }

struct Random {  // splitmix64
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    bool below(double chance) { return double(next() >> 11) * 0x1p-53 < chance; }
};

template <size_t N> static void put(VlWide<N>& port, const uint32_t* words) {
    for (size_t i = 0; i < N; ++i) port[i] = words[i];
}
static void put(QData& port, const uint32_t* words) { port = words[0] | uint64_t(words[1]) << 32; }
static void put(IData& port, const uint32_t* words) { port = words[0]; }

template <size_t N> static void get(const VlWide<N>& port, uint32_t* words) {
    for (size_t i = 0; i < N; ++i) words[i] = port[i];
}
static void get(const QData& port, uint32_t* words) {
    words[0] = uint32_t(port);
    words[1] = uint32_t(port >> 32);
}
static void get(const IData& port, uint32_t* words) { words[0] = port; }
static void get(const SData& port, uint32_t* words) { words[0] = port; }

struct Stream {
    uint32_t words[BEATS_IN * BEAT_WORDS];  // spare words of the last beat are zero
    int16_t weights[STREAM_WEIGHTS];
};

static void malformed(const char* what) {
    std::fprintf(stderr, "the harness cannot read its input: %s\n", what);
    std::exit(3);
}

// Streams as they come in; a stream is kept until all its weights have been compared.
struct Scoreboard {
    std::deque<Stream> streams;  // the first of them is number `finished`
    uint64_t read = 0, finished = 0;
    uint64_t beats = 0, weights = 0, mismatches = 0;
    uint64_t wrong_stream = 0, wrong_weight = 0;
    int expected = 0, got = 0;
    bool ended = false;

    bool more() {  // whether stream number `read` exists; then it is the last of `streams`
        if (ended) return false;
        streams.emplace_back();
        Stream& stream = streams.back();
        std::memset(stream.words, 0, sizeof stream.words);
        size_t n = std::fread(stream.words, 1, 4 * STREAM_WORDS, stdin);
        if (!n) {
            streams.pop_back();
            ended = true;
            return false;
        }
        if (n != 4 * STREAM_WORDS
            || std::fread(stream.weights, sizeof stream.weights, 1, stdin) != 1)
            malformed("it ends within a stream");
        ++read;
        return true;
    }

    void take(size_t beat, const uint32_t* payload) {  // of stream number `finished`
        const Stream& stream = streams.front();
        for (size_t i = 0, n = beat * BEAT_WEIGHTS; i < BEAT_WEIGHTS && n < STREAM_WEIGHTS;
             ++i, ++n) {
            const size_t bit = i * WEIGHT_BITS;
            const uint64_t two = payload[bit / 32] | uint64_t(payload[bit / 32 + 1]) << 32;
            const uint32_t field = uint32_t(two >> bit % 32) << (32 - WEIGHT_BITS);
            const int value = int32_t(field) >> (32 - WEIGHT_BITS);
            ++weights;
            if (value == stream.weights[n]) continue;
            if (!mismatches++) {
                wrong_stream = finished;
                wrong_weight = n;
                expected = stream.weights[n];
                got = value;
            }
        }
        ++beats;
        if (beat + 1 == BEATS_OUT) {
            streams.pop_front();
            ++finished;
        }
    }
};

int main(int argc, char** argv) {
    if (argc < 5) malformed("give SEED STALL PATIENCE DRAIN");
    Random random_in{std::strtoull(argv[1], nullptr, 10)};
    Random random_out{~random_in.state};
    const double stall = std::strtod(argv[2], nullptr);
    const uint64_t patience = std::strtoull(argv[3], nullptr, 10);
    const uint64_t drain = std::strtoull(argv[4], nullptr, 10);

    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vdut dut{&context};
    const auto settle = [&] { dut.clk = 0; dut.eval(); };
    const auto edge = [&] { dut.clk = 1; dut.eval(); };

    dut.i___05Fvalid = 0;
    dut.o___05Fready = 0;
    dut.rst = 1;
    for (int i = 0; i < 2; ++i) { settle(); edge(); }
    dut.rst = 0;

    Scoreboard board;
    uint32_t payload[PAYLOAD_WORDS + 1] = {}, held[PAYLOAD_WORDS + 1] = {};
    uint32_t junk[BEAT_WORDS + 1] = {};
    bool presenting = false, holding = false;
    size_t beat_in = 0, beat_out = 0;  // within their streams
    uint64_t cycle = 0, sent = 0, idle = 0, waits_in = 0, waits_out = 0, quiet = 0;
    uint64_t first_in = 0, last_out = 0, full_rate = 0;
    std::string failure;
    bool available = board.more();

    while (failure.empty() && quiet <= drain) {
        const bool complete = !available && board.finished == board.read;
        quiet = complete ? quiet + 1 : 0;
        if (!presenting && available) {
            const Phase phase = phase_of(board.read - 1);
            if (!(phase.in && random_in.below(stall))) {
                put(dut.i___05Fpayload, board.streams.back().words + beat_in * BEAT_WORDS);
                presenting = true;
            } else {  // nobody may look at a payload that is not valid
                for (uint32_t& word : junk) word = uint32_t(random_in.next());
                put(dut.i___05Fpayload, junk);
            }
        }
        dut.i___05Fvalid = presenting;
        const bool ready
            = complete || !(phase_of(board.finished).out && random_out.below(stall));
        dut.o___05Fready = ready;
        settle();

        if (!complete && ready && (presenting || !available)) ++idle;
        if (presenting && dut.i___05Fready) {
            presenting = false;
            idle = 0;
            if (!sent++) first_in = cycle;
            if (++beat_in == BEATS_IN) {
                beat_in = 0;
                available = board.more();
                if (board.streams.size() > MOST_IN_FLIGHT)
                    failure = "no output for " + std::to_string(MOST_IN_FLIGHT) + " streams";
            }
        } else if (presenting) {
            ++waits_in;
        }

        if (dut.o___05Fvalid) {
            get(dut.o___05Fpayload, payload);
            if (holding && std::memcmp(payload, held, 4 * PAYLOAD_WORDS))
                failure = "output payload changed while it waited for ready";
            else if (!ready) {
                std::memcpy(held, payload, sizeof held);
                holding = true;
                ++waits_out;
            } else if (complete) {
                failure = "surplus output beat after the expected " + std::to_string(board.beats);
            } else if (board.finished * BEATS_IN >= sent) {
                failure = "output beat of a stream of which no input beat was taken";
            } else {
                board.take(beat_out, payload);
                beat_out = beat_out + 1 == BEATS_OUT ? 0 : beat_out + 1;
                last_out = cycle;
                if (!beat_out && board.finished <= TURN_STREAMS) full_rate = cycle - first_in + 1;
                holding = false;
                idle = 0;
            }
        } else if (holding) {
            failure = "output valid fell before ready";
        }
        if (failure.empty() && idle > patience)
            failure = "no transfer in " + std::to_string(idle) + " cycles that allowed one: "
                + std::to_string(sent) + " input beats taken, " + std::to_string(board.beats)
                + " output beats received";
        edge();
        ++cycle;
    }
    dut.final();

    std::printf(
        "{\"streams\": %" PRIu64 ", \"beats_in\": %" PRIu64 ", \"beats\": %" PRIu64
        ", \"weights\": %" PRIu64 ", \"mismatches\": %" PRIu64
        ", \"stream\": %" PRIu64 ", \"weight\": %" PRIu64 ", \"expected\": %d, \"got\": %d"
        ", \"cycles\": %" PRIu64 ", \"full_rate_cycles\": %" PRIu64
        ", \"waits\": [%" PRIu64 ", %" PRIu64 "], \"failure\": \"%s\"}\n",
        board.finished, sent, board.beats, board.weights, board.mismatches, board.wrong_stream,
        board.wrong_weight, board.expected, board.got,
        board.beats ? last_out - first_in + 1 : 0, full_rate, waits_in, waits_out,
        failure.c_str());
    return 0;
}
"""
