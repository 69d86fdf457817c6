#include "tests/sim/mischief.hh"

#include <utility>

namespace sim {

std::vector<bytes> mischief::forge(const bytes& frame, model_host& host) {
    if (!host.is_open() || !_random.chance(80'000)) return {};
    // The host's own frames may be superframes with the whole first segment in hdr_len.
    segment lie = read_frame(cut_superframe(frame).front());
    if (lie.syn || lie.rst) return {};
    lie.data.clear();
    lie.sack.clear();
    lie.fin = lie.psh = false;
    lie.ecn = 0;
    const auto any = [this](std::uint32_t most) {
        return static_cast<std::uint32_t>(_random.between(1, most));
    };
    switch (_random.between(0, 8)) {
        case 0: lie.ack += 5'000'000 + any(1u << 30); break;
        case 1: lie.ack -= any(1u << 30); break;
        case 2: lie.window = static_cast<std::uint16_t>(lie.window / any(50)); break;
        case 3: lie.window = 0; break;
        case 4:
        case 5:
            for (unsigned i = 0; i < _random.between(1, 4); ++i) {
                const std::uint32_t start = lie.ack + any(200'000) - 50'000;
                lie.sack.emplace_back(start, start + any(100'000) - 20'000);
            }
            break;
        case 6:
            lie.rst = true;
            lie.seq += (1u << 30) + any(1u << 30);
            break;
        case 7:
            lie.syn = true;
            lie.has_ack = _random.coin();
            lie.seq += any(1u << 31);
            break;
        default: {
            const std::uint64_t near = host.sent_una();
            const std::uint64_t from = near + any(40'000);
            host.repeat(from > 20'000 ? from - 20'000 : 0, from + any(3000));
            return {};
        }
    }
    return {write_frame(lie, checksum::complete)};
}

void mischief::watch(const bytes& frame) {
    const segment seen = read_frame(frame);
    if (seen.rst) return;
    const std::uint32_t end = seen.seq + static_cast<std::uint32_t>(seen.data.size()) +
                              (seen.syn ? 1 : 0) + (seen.fin ? 1 : 0);
    if (!_watched || static_cast<std::int32_t>(end - _highest) > 0) _highest = end;
    _watched = true;
}

void mischief::acknowledge_everything(bytes& frame) const {
    if (!_watched || frame[1] != 0) return;  // a superframe is left alone
    segment said = read_frame(frame);
    if (said.syn || said.rst || !said.has_ack) return;
    said.ack = _highest;
    said.sack.clear();
    frame = write_frame(said, checksum::complete);
}

}  // namespace sim
