// What a host can say that is not so. Forged frames go beside the right ones: the transfer must
// come through all the same. The optimist's replace them: he loses his own bytes and nothing else.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {

class mischief {
  public:
    explicit mischief(std::uint64_t seed) : _random(seed) {}

    // Frames to send beside a right one of the host.
    std::vector<bytes> forge(const bytes& frame, model_host& host);

    // A frame to the host passes; everything up to its end will be acknowledged.
    void watch(const bytes& frame);
    void acknowledge_everything(bytes& frame) const;

  private:
    random _random;
    bool _watched = false;
    std::uint32_t _highest = 0;
};

}  // namespace sim
