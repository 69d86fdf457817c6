#include "core/relay/tun_strays.hh"

#include <new>
#include <span>

#include "crypto/random.hh"

namespace burin::relay {

unsigned tun_strays::find(const std::unique_ptr<tun::flow_table>& in,
                          const tun::flow_key& key) noexcept {
    if (in == nullptr) return nobody;
    const std::uint32_t found = in->find(key);
    return found == tun::flow_table::none ? nobody : found;
}

// What finds no memory is not remembered: a frame that comes in here later is answered with a
// reset.
bool tun_strays::put(std::unique_ptr<tun::flow_table>& in, const tun::flow_key& key,
                     unsigned number) noexcept {
    if (in == nullptr) {
        tun::hash_key secret;
        crypto::fill_random(std::as_writable_bytes(std::span(&secret, 1)));
        try {
            in = std::make_unique<tun::flow_table>(secret, _limit);
        } catch (const std::bad_alloc&) {
            return false;
        }
    }
    in->erase(key);
    return in->insert(key, number) == tun::flow_table::outcome::inserted;
}

unsigned tun_strays::carrier(const tun::flow_key& key) const noexcept {
    return find(_passed, key);
}

void tun_strays::pass_on(const tun::flow_key& key, unsigned to) noexcept {
    put(_passed, key, to);
}

void tun_strays::forget(const tun::flow_key& key) noexcept {
    if (_passed != nullptr) _passed->erase(key);
}

bool tun_strays::adopt(const tun::flow_key& key, unsigned from) noexcept {
    return put(_adopted, key, from);
}

unsigned tun_strays::release(const tun::flow_key& key) noexcept {
    const unsigned from = find(_adopted, key);
    if (from != nobody) _adopted->erase(key);
    return from;
}

}  // namespace burin::relay
