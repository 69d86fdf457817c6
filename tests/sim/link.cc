#include "tests/sim/link.hh"

#include <utility>

namespace sim {

bool link::is_lost(std::uint64_t now, random& r) {
    if (_bad) {
        _bad = !r.chance(_set.burst_ends) && now - _bad_since < longest_burst;
    } else if (r.chance(_set.bursts)) {
        _bad = true;
        _bad_since = now;
    }
    return r.chance(_bad ? _set.burst_loss : _set.loss);
}

std::vector<link::arrival> link::carry(bytes frame, std::uint64_t now, random& r) {
    std::vector<bytes> frames;
    if (r.chance(_set.cuts)) {
        frames = cut_superframe(frame);
    } else {
        frames.push_back(std::move(frame));
    }
    std::vector<arrival> out;
    for (bytes& one : frames) {
        if (is_lost(now, r)) continue;
        const unsigned copies = r.chance(_set.duplicates) ? 2 : 1;
        for (unsigned i = 0; i < copies; ++i) {
            bytes copy = one;
            if (r.chance(_set.marks)) mark_congestion(copy);
            // Only a full checksum finds a flipped bit; offloaded frames never left a machine.
            if ((copy[0] & 1) == 0 && r.chance(_set.corruption)) {
                copy[r.between(10, copy.size() - 1)] ^=
                    static_cast<std::uint8_t>(1u << r.between(0, 7));
            }
            const std::uint64_t late =
                _set.jitter > 0 && r.chance(_set.late) ? r.between(0, _set.jitter) : 0;
            out.push_back({_set.delay + late, std::move(copy)});
        }
    }
    return out;
}

}  // namespace sim
