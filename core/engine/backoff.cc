#include "core/engine/backoff.hh"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/engine/duration.hh"

namespace burin::engine {

backoff::step backoff::failed(std::string_view error, ring::microseconds_t session) {
    if (session > good_session) _attempt = 0;
    step s;
    if (!error.empty()) {
        s.error_line = fmt::format("Connection error: {}", error);
        if (_attempt > 0)
            s.error_line +=
                fmt::format(" (Attempt: {}/{})", _attempt,
                            _most_retries < 0 ? "unlimited" : fmt::to_string(_most_retries));
    }
    if (_most_retries >= 0 && _attempt >= static_cast<unsigned>(_most_retries)) {
        s.next_line = "Give up";
        return s;
    }
    // The shift is looked at from the other side, where it cannot overflow.
    bool below = _attempt < 63 && _least <= (_most >> _attempt);
    s.delay = below ? std::min(_least << _attempt, _most) : _most;
    ++_attempt;
    auto count = static_cast<std::int64_t>(*s.delay);
    s.next_line = fmt::format("Retrying in {}...", duration_text(std::chrono::microseconds(count)));
    return s;
}

}  // namespace burin::engine
