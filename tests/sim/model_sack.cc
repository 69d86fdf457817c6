// The model host's selective acknowledgements, both ways (RFC 2018, RFC 2883, RFC 6675).
#include <algorithm>
#include <stdexcept>

#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {
namespace {

void demand(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("model host: ") + what);
}

}  // namespace

std::uint64_t model_host::segment_bytes() const {
    return std::min(_set.mss, _peer_mss);
}

std::uint64_t model_host::unsacked(std::uint64_t from, std::uint64_t upto) const {
    if (from >= upto) return 0;
    std::uint64_t count = upto - from;
    for (const auto& [start, end] : _sacked) {
        const std::uint64_t low = std::max(start, from);
        const std::uint64_t high = std::min(end, upto);
        if (low < high) count -= high - low;
    }
    return count;
}

// RFC 6675 section 4, SetPipe: out and not lost, or sent again.
std::uint64_t model_host::pipe() const {
    const std::uint64_t lost_from = std::max(_repaired, _una);
    const std::uint64_t lost_upto = std::max(_lost_upto, lost_from);
    if (_una >= _recover) return unsacked(_una, _next);
    return unsacked(_una, std::min(lost_from, _next)) + unsacked(lost_upto, _next);
}

void model_host::take_sack(const segment& in, std::uint64_t ack) {
    demand(in.sack.size() <= 4, "more SACK blocks than fit");
    std::map<std::uint64_t, std::uint64_t> here;
    for (std::size_t i = 0; i < in.sack.size(); ++i) {
        const auto offset = [&](std::uint32_t wire) {
            return ack +
                   static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(
                       wire - (_set.isn + 1) - static_cast<std::uint32_t>(ack))));
        };
        const std::uint64_t start = offset(in.sack[i].first);
        const std::uint64_t end = offset(in.sack[i].second);
        const bool below = static_cast<std::int64_t>(end - ack) <= 0;
        if (i == 0 && below) continue;  // D-SACK
        demand(start < end && end <= _highest, "a SACK block of what was never sent");
        if (i == 0 && in.sack.size() > 1) {
            const std::uint64_t next = offset(in.sack[1].first);
            if (start >= next && end <= offset(in.sack[1].second)) continue;  // D-SACK
        }
        demand(start > ack, "a SACK block at or below the ACK");
        for (const auto& [other, other_end] : here) {
            demand(end < other || start > other_end, "SACK blocks that touch");
        }
        here[start] = end;
    }
    if (ack < _una) return;
    for (const auto& block : here) {
        std::uint64_t start = block.first;
        std::uint64_t end = block.second;
        for (auto old = _sacked.begin(); old != _sacked.end();) {
            if (old->first <= end && start <= old->second) {
                start = std::min(start, old->first);
                end = std::max(end, old->second);
                old = _sacked.erase(old);
            } else {
                ++old;
            }
        }
        _sacked[start] = end;
    }
}

// RFC 6675 section 5, for the rules (1) and (2).
void model_host::on_evidence(micros now) {
    if (_next == _una || _sacked.empty()) return;
    const std::uint64_t above = (_next - _una) - unsacked(_una, _next);
    const std::uint64_t highest = _sacked.rbegin()->first;
    if (_una >= _recover) {
        if (_duplicates < 3 && above < 3 * segment_bytes()) return;
        _recover = _next;
        _threshold = std::max<std::uint64_t>((_next - _una) / 2, 2ull * _set.mss);
        _cwnd = _threshold;
        _repaired = _una;
        _lost_upto = _una;
        _rto_at = now + _rto;
    }
    _lost_upto = std::max(_lost_upto, highest);
}

void model_host::repair_holes(micros now) {
    if (!_sack || _una >= _recover) return;
    _repaired = std::max(_repaired, _una);
    while (_repaired < std::min(_lost_upto, _next)) {
        auto next = _sacked.upper_bound(_repaired);
        if (next != _sacked.begin()) {
            const auto within = std::prev(next);
            if (within->second > _repaired) {
                _repaired = within->second;
                continue;
            }
        }
        std::uint64_t end = std::min(_lost_upto, _next);
        if (next != _sacked.end()) end = std::min(end, next->first);
        if (pipe() > 0 && pipe() + segment_bytes() > _cwnd) return;
        const std::uint64_t data_end = std::min(end, _set.send_total);
        const std::uint64_t count =
            data_end > _repaired ? std::min(segment_bytes(), data_end - _repaired) : 0;
        const bool fin = _repaired + count == _set.send_total && end > _set.send_total;
        if (count == 0 && !fin) return;
        const std::uint64_t at = _repaired;
        _repaired += count + (fin ? 1 : 0);
        transmit(at, count, fin);
        if (_rto_at == never) _rto_at = now + _rto;
    }
}

bool model_host::holds(std::uint64_t from, std::uint64_t upto) const {
    if (upto <= _received) return true;
    if (from < _received) return false;  // in part only
    const auto next = _runs.upper_bound(from);
    return next != _runs.begin() && std::prev(next)->second >= upto;
}

void model_host::note_run(std::uint64_t from, std::uint64_t upto) {
    auto next = _runs.upper_bound(from);
    if (next != _runs.begin() && std::prev(next)->second >= from) {
        --next;
        from = next->first;
    }
    while (next != _runs.end() && next->first <= upto) {
        upto = std::max(upto, next->second);
        next = _runs.erase(next);
    }
    _runs[from] = upto;
}

void model_host::add_sack(segment& out) {
    if (!_sack) return;
    const auto wire = [this](std::uint64_t offset) {
        return _peer_isn + 1 + static_cast<std::uint32_t>(offset);
    };
    if (_double_start < _double_end && _set.tells_doubles) {
        out.sack.emplace_back(wire(_double_start), wire(_double_end));
    }
    _double_start = _double_end = 0;
    std::vector<std::uint64_t> told;  // where they start
    for (std::uint64_t arrival : _arrivals) {
        if (out.sack.size() == 4 || told.size() == _runs.size()) break;
        auto run = _runs.upper_bound(arrival);
        if (run == _runs.begin()) continue;
        --run;
        if (run->second <= arrival) continue;
        if (std::find(told.begin(), told.end(), run->first) != told.end()) continue;
        out.sack.emplace_back(wire(run->first), wire(run->second));
        told.push_back(run->first);
    }
}

void model_host::repeat(std::uint64_t from, std::uint64_t upto) {
    if (_state != state::open) return;
    upto = std::min({upto, _highest, _set.send_total, from + segment_bytes()});
    if (from >= upto) return;
    transmit(from, upto - from, false);
}

}  // namespace sim
