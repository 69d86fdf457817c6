#include "core/engine/login_delays.hh"

#include <algorithm>
#include <cstring>

namespace burin::engine {

login_delays::key login_delays::key_of(const relay::endpoint& from) {
    key out{};
    if (from.family() == AF_INET) {
        const auto* v4 = reinterpret_cast<const sockaddr_in*>(from.address());
        out[10] = out[11] = 0xff;  // the mapped form, RFC 4291 section 2.5.5.2
        std::memcpy(&out[12], &v4->sin_addr, 4);
        return out;
    }
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(from.address());
    // A socket for both families shows IPv4 in that form.
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    std::memcpy(out.data(), &v6->sin6_addr, mapped ? 16 : 8);
    return out;
}

ring::microseconds_t login_delays::wait_after(unsigned failures) const {
    return failures == 0 ? 0 : _settings.first << std::min(failures - 1, 2u);
}

void login_delays::forget(ring::microseconds_t now) {
    while (!_entries.empty() && (_entries.size() > _settings.addresses ||
                                 now >= _entries.front().last + _settings.forgotten)) {
        _by_address.erase(_entries.front().address);
        _entries.pop_front();
    }
}

ring::microseconds_t login_delays::failed(const relay::endpoint& from, ring::microseconds_t now) {
    const key address = key_of(from);
    std::lock_guard guard(_lock);
    ++_failures;
    forget(now);
    auto found = _by_address.find(address);
    if (found == _by_address.end()) {
        _entries.push_back({address, 1, now});
        _by_address.emplace(address, std::prev(_entries.end()));
        forget(now);
        return wait_after(1);
    }
    _entries.splice(_entries.end(), _entries, found->second);
    entry& e = *found->second;
    e.last = now;
    return wait_after(++e.failures);
}

ring::microseconds_t login_delays::right(const relay::endpoint& from, ring::microseconds_t now) {
    std::lock_guard guard(_lock);
    forget(now);
    auto found = _by_address.find(key_of(from));
    return found == _by_address.end() ? 0 : wait_after(found->second->failures);
}

login_delays::numbers login_delays::report() const {
    std::lock_guard guard(_lock);
    return {_failures, _entries.size()};
}

}  // namespace burin::engine
