// What one worker may promise and hold, in bytes: SSH windows granted and not used up, and payload
// kept in buffers of exact size. Windows come in two parts, because a granted SSH window cannot be
// taken back:
//
//   * a base for every channel there may be (`base_bytes` each), set aside, so that a new channel
//   always gets one;
//   * growth, shared by the flows that need more; it runs out gracefully: each asks for a share of
//   what is left.
//
// A window once granted turns from "granted" into "held" and back as bytes arrive and are consumed:
// the sum is charged once, at the grant, and given back when the channel ends or its window
// shrinks. One thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace burin::ring {

class budget {
  public:
    static constexpr std::uint64_t base_bytes = 16 * 1024;

    budget(std::uint64_t total, std::uint32_t channels) noexcept
        : _total(total), _channels(channels) {
        // A small budget holds fewer channels rather than smaller windows.
        std::uint64_t most = total / 4 * 3 / base_bytes;
        if (_channels > most) _channels = static_cast<std::uint32_t>(most);
        _growth = total - std::uint64_t{_channels} * base_bytes;
        _scarce = _growth / scarce_share;
    }

    // A new channel's window, or 0 when the worker has all the channels it can hold. At most
    // `wanted`.
    std::uint32_t open(std::uint32_t wanted) noexcept {
        if (_open >= _channels) return 0;
        ++_open;
        std::uint64_t extra = std::min<std::uint64_t>(wanted > base_bytes ? wanted - base_bytes : 0,
                                                      _growth / initial_share);
        _growth -= extra;
        return static_cast<std::uint32_t>(base_bytes + extra);
    }
    // More for a window that proved too small; what is granted, 0 when there is nothing to share.
    std::uint32_t grow(std::uint32_t wanted) noexcept {
        std::uint64_t granted = std::min<std::uint64_t>(wanted, _growth / growth_share);
        if (granted < base_bytes) return 0;
        _growth -= granted;
        return static_cast<std::uint32_t>(granted);
    }
    // Bytes that are held already and were no channel's any more: as much of them as there is to
    // share; what is charged.
    std::uint32_t hold(std::uint32_t bytes) noexcept {
        const auto charged = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, _growth));
        _growth -= charged;
        return charged;
    }
    void shrink(std::uint32_t bytes) noexcept { _growth += bytes; }
    // The channel that was given `window` in all has ended.
    void close(std::uint32_t window) noexcept {
        --_open;
        _growth += window - base_bytes;
    }

    std::uint64_t total() const noexcept { return _total; }
    std::uint64_t growth_left() const noexcept { return _growth; }
    // Little is left to grow with: who has more than it uses is to give it back.
    bool scarce() const noexcept { return _growth < _scarce; }
    std::uint32_t open_channels() const noexcept { return _open; }
    std::uint32_t channel_limit() const noexcept { return _channels; }

  private:
    // One flow's first window takes at most this fraction of what is left, its growth at most the
    // other.
    static constexpr std::uint64_t initial_share = 1024, growth_share = 8;
    // Of what growth has in all: when less is left, every flow's next share is small.
    static constexpr std::uint64_t scarce_share = 8;
    std::uint64_t _total;
    std::uint32_t _channels;
    std::uint64_t _growth;
    std::uint64_t _scarce = 0;
    std::uint32_t _open = 0;
};

}  // namespace burin::ring
