// The connections of one worker that have not logged in yet: how many there are and what they make
// us hold, each within a limit. Where one is reached, one of them makes room: taken at random, so
// that a flood of silent ones ends among itself, and neither the first nor the last can be kept
// out, while a client that logs in within a moment is hardly met.
//
// A stranger is its owner's; it leaves the list when it logs in or ends. Only its worker's thread
// touches the list; the counters may be read from any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "crypto/random.hh"

namespace burin::engine {

struct stranger_limits {
    std::size_t connections = 0, bytes = 0;

    // What a server's strangers may take, all workers together: half of the descriptors, because
    // the other half belongs to those who are in, and a third of the memory.
    static constexpr stranger_limits of_server(std::uint64_t descriptors,
                                               std::uint64_t memory_bytes) noexcept {
        return {.connections = static_cast<std::size_t>(
                    std::clamp<std::uint64_t>(descriptors / 2, 16, most_connections)),
                .bytes = static_cast<std::size_t>(
                    std::min<std::uint64_t>(memory_bytes / 3, most_bytes))};
    }
    constexpr stranger_limits share(std::size_t workers) const noexcept {
        return {.connections = std::max<std::size_t>(1, connections / workers),
                .bytes = bytes / workers};
    }

    static constexpr std::uint64_t most_connections = 16384;
    // Half of what 20 000 of them may cost: those that just ended, and what the allocator keeps,
    // come on top.
    static constexpr std::uint64_t most_bytes = 48u << 20;
};

class stranger {
  public:
    virtual ~stranger() = default;
    // Ends, and leaves the list before this returns.
    virtual void make_room(std::string_view why) noexcept = 0;

  private:
    friend class strangers;
    static constexpr std::size_t nowhere = ~std::size_t{0};
    std::size_t _index = nowhere;
    std::size_t _bytes = 0;
};

struct stranger_counters {
    std::atomic<std::size_t> connections{0}, bytes{0};  // now
    // Since the start: those that made room, because of the number, of the memory, of descriptors.
    std::atomic<std::uint64_t> for_number{0}, for_memory{0}, for_descriptors{0};
};

class strangers {
  public:
    using random_function = std::uint32_t (*)() noexcept;
    explicit strangers(const stranger_limits& limits, random_function random = crypto::random_u32)
        : _limits(limits), _random(random) {}
    strangers(const strangers&) = delete;
    strangers& operator=(const strangers&) = delete;

    // A new connection; when there are as many as may be, another makes room first. False then.
    bool add(stranger&) noexcept;
    // It logged in or ended; one that is not in the list stays out of it.
    void remove(stranger&) noexcept;
    // What it makes us hold now. Where all together hold too much, false, and of a few taken at
    // random the one that holds most ends, until they do not: it may be this one.
    bool hold(stranger&, std::size_t bytes) noexcept;
    // The process has no descriptors left: some of them give theirs back. How many did.
    std::size_t shed() noexcept;

    const stranger_limits& limits() const noexcept { return _limits; }
    const stranger_counters& counters() const noexcept { return _counters; }

  private:
    stranger& any() noexcept { return *_list[_random() % _list.size()]; }

    stranger_limits _limits;
    random_function _random;
    std::vector<stranger*> _list;
    stranger_counters _counters;
};

}  // namespace burin::engine
