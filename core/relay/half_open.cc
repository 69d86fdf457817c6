#include "core/relay/half_open.hh"

#include <algorithm>
#include <utility>

namespace burin::relay {

namespace {
tun::flow_key source_of(const tun::flow_key& flow) noexcept {
    tun::flow_key key;
    key.source = flow.source;
    return key;
}

std::uint32_t to_ms(ring::microseconds_t now) noexcept {
    return static_cast<std::uint32_t>(now / ring::millisecond);
}
}  // namespace

half_open::half_open(const tun::hash_key& key, const half_open_settings& s)
    : _settings(s),
      _most_of_a_host(std::max(1u, s.most / 2)),
      _table(key, s.most),
      _ranks(std::size_t{_most_of_a_host} + 1) {}

half_open::answer half_open::admit(const tun::flow_key& of, ring::microseconds_t now,
                                   bool full) const noexcept {
    const std::uint32_t known = _table.find(source_of(of));
    const std::uint32_t count = known == none ? 0 : _hosts[known].count;
    const bool has_share = count >= _most_of_a_host;
    if (!full && !has_share && _size < _settings.most) return {};
    if (_size == 0) return {outcome::refused, nullptr};
    if (!has_share && _greatest >= count + 2)
        return {outcome::crowded, _hosts[_ranks[_greatest].first].flows.first};
    // A host's own oldest; for one that has none yet, that of the host which is there the longest.
    flow_entry* loser = _hosts[known == none ? _ranks[_greatest].first : known].flows.first;
    const std::uint32_t age_ms = to_ms(now) - loser->since_ms;
    if (age_ms * ring::millisecond < _settings.least_age) return {outcome::refused, nullptr};
    return {outcome::replaces, loser};
}

void half_open::insert(flow_entry& e, const tun::flow_key& of, ring::microseconds_t now) noexcept {
    const tun::flow_key key = source_of(of);
    std::uint32_t index = _table.find(key);
    if (index == none)
        index = make_host(key);
    else
        leave_rank(index);
    host& h = _hosts[index];
    e.since_ms = to_ms(now);
    e.host = index;
    h.flows.push(e);
    ++h.count;
    ++_size;
    enter_rank(index);
}

void half_open::remove(flow_entry& e) noexcept {
    if (e.host == none) return;
    const std::uint32_t index = std::exchange(e.host, none);
    host& h = _hosts[index];
    leave_rank(index);
    h.flows.remove(e);
    --_size;
    if (--h.count > 0) return enter_rank(index);
    _table.erase(h.key);
    _free.push_back(index);
}

std::uint32_t half_open::make_host(const tun::flow_key& key) noexcept {
    std::uint32_t index = static_cast<std::uint32_t>(_hosts.size());
    if (_free.empty()) {
        _hosts.emplace_back();
    } else {
        index = _free.back();
        _free.pop_back();
    }
    _hosts[index] = {};
    _hosts[index].key = key;
    _table.insert(key, index);  // no more hosts than flows
    return index;
}

void half_open::enter_rank(std::uint32_t index) noexcept {
    host& h = _hosts[index];
    rank& r = _ranks[h.count];
    h.next = none;
    h.before = r.last;
    (r.last == none ? r.first : _hosts[r.last].next) = index;
    r.last = index;
    _greatest = std::max(_greatest, h.count);
}

void half_open::leave_rank(std::uint32_t index) noexcept {
    host& h = _hosts[index];
    rank& r = _ranks[h.count];
    (h.before == none ? r.first : _hosts[h.before].next) = h.next;
    (h.next == none ? r.last : _hosts[h.next].before) = h.before;
    // Counts change by one, so what leaves the highest rank empty is at most one below it; a host
    // that goes altogether leaves from rank one.
    if (h.count == _greatest && r.first == none) --_greatest;
}

}  // namespace burin::relay
