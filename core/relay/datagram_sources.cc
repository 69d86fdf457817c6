#include "core/relay/datagram_sources.hh"

#include <algorithm>

namespace burin::relay {

std::string_view datagram_sources::note(const endpoint& who, ring::microseconds_t now) {
    if (_recent >= _entries.size() || !(_entries[_recent].who == who)) {
        auto at = std::find_if(_entries.begin(), _entries.end(),
                               [&](const entry& e) { return e.who == who; });
        if (at == _entries.end() && _entries.size() < _most) {
            _entries.push_back({who, who.text(), now});
            at = std::prev(_entries.end());
        } else if (at == _entries.end()) {
            at = std::min_element(_entries.begin(), _entries.end(),
                                  [](const entry& a, const entry& b) { return a.last < b.last; });
            *at = {who, who.text(), now};
        }
        _recent = static_cast<std::size_t>(at - _entries.begin());
    }
    _entries[_recent].last = now;
    return _entries[_recent].text;
}

const endpoint* datagram_sources::find(std::string_view text, ring::microseconds_t now) {
    if (_recent >= _entries.size() || _entries[_recent].text != text) {
        auto at = std::find_if(_entries.begin(), _entries.end(),
                               [&](const entry& e) { return e.text == text; });
        if (at == _entries.end()) return nullptr;
        _recent = static_cast<std::size_t>(at - _entries.begin());
    }
    const entry& e = _entries[_recent];
    return now - e.last > _deadline ? nullptr : &e.who;
}

}  // namespace burin::relay
