// A key for hashing flows that strangers cannot foresee (tun/flow_key.hh).
#pragma once

#include <span>

#include "crypto/random.hh"
#include "tun/flow_key.hh"

namespace burin::relay {

inline tun::hash_key random_key() {
    tun::hash_key key;
    crypto::fill_random(std::as_writable_bytes(std::span(&key, 1)));
    return key;
}

}  // namespace burin::relay
