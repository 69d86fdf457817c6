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

template <auto Link, class T>
void half_open::push(std::vector<T>& all, ends& list, std::uint32_t one) noexcept {
    all[one].*Link = {none, list.last};
    (list.last == none ? list.first : (all[list.last].*Link).next) = one;
    list.last = one;
}

template <auto Link, class T>
void half_open::drop(std::vector<T>& all, ends& list, std::uint32_t one) noexcept {
    const links at = all[one].*Link;
    (at.before == none ? list.first : (all[at.before].*Link).next) = at.next;
    (at.next == none ? list.last : (all[at.next].*Link).before) = at.before;
}

half_open::half_open(const tun::hash_key& key, const half_open_settings& s)
    : _settings(s),
      _most_of_a_host(std::max(1u, s.most / 2)),
      _table(key, s.most),
      _ranks(std::size_t{_most_of_a_host} + 1) {}

bool half_open::is_older(std::uint32_t flow, ring::microseconds_t age,
                         ring::microseconds_t now) const noexcept {
    const std::uint32_t age_ms = to_ms(now) - _entries[flow].since_ms;
    return age_ms * ring::millisecond >= age;
}

half_open::answer half_open::admit(const tun::flow_key& of, ring::microseconds_t now,
                                   bool full) const noexcept {
    const std::uint32_t known = _table.find(source_of(of));
    const std::uint32_t count = known == none ? 0 : _hosts[known].count;
    const bool has_share = count >= _most_of_a_host;
    if (!full && !has_share && _size < _settings.most) return {};
    if (_size == 0) return {outcome::refused, none};
    const host& richest = _hosts[_ranks[_greatest].first];
    if (!has_share) {
        if (_greatest >= count + 2) return {outcome::crowded, richest.flows.first};
        if (is_older(_ages.first, _settings.stale_age, now))
            return {outcome::replaces, _ages.first};
    }
    const std::uint32_t loser = known == none ? richest.flows.first : _hosts[known].flows.first;
    if (!is_older(loser, _settings.least_age, now)) return {outcome::refused, none};
    return {outcome::replaces, loser};
}

void half_open::insert(std::uint32_t flow, const tun::flow_key& of,
                       ring::microseconds_t now) noexcept {
    const tun::flow_key key = source_of(of);
    std::uint32_t index = _table.find(key);
    if (index == none)
        index = make_host(key);
    else
        leave_rank(index);
    if (flow >= _entries.size()) _entries.resize(std::size_t{flow} + 1);
    entry& e = _entries[flow];
    e.since_ms = to_ms(now);
    e.host = index;
    host& h = _hosts[index];
    push<&entry::by_host>(_entries, h.flows, flow);
    push<&entry::by_age>(_entries, _ages, flow);
    ++_size;
    ++h.count;
    push<&host::by_rank>(_hosts, _ranks[h.count], index);
    _greatest = std::max(_greatest, h.count);
}

void half_open::remove(std::uint32_t flow) noexcept {
    if (flow >= _entries.size() || _entries[flow].host == none) return;
    const std::uint32_t index = std::exchange(_entries[flow].host, none);
    host& h = _hosts[index];
    leave_rank(index);
    drop<&entry::by_host>(_entries, h.flows, flow);
    drop<&entry::by_age>(_entries, _ages, flow);
    --_size;
    if (--h.count > 0) return push<&host::by_rank>(_hosts, _ranks[h.count], index);
    _table.erase(h.key);
    _free.push_back(index);
}

std::uint32_t half_open::make_host(const tun::flow_key& key) noexcept {
    auto index = static_cast<std::uint32_t>(_hosts.size());
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

// Its count is about to change by one, so when it leaves the highest rank empty, the rank below is
// the highest: it goes there, or others are there, or there is none.
void half_open::leave_rank(std::uint32_t index) noexcept {
    const std::uint32_t count = _hosts[index].count;
    drop<&host::by_rank>(_hosts, _ranks[count], index);
    if (count == _greatest && _ranks[count].first == none) --_greatest;
}

}  // namespace burin::relay
