// Sends of a link without a copy (zero_copy.hh).
#include <cerrno>

#include "core/engine/link.hh"

namespace burin::engine {

namespace {
// Sends without a copy cost two completions and the pinning of pages: worth it for bulk alone.
constexpr std::size_t least_lent_bytes = 64 * 1024;
// So many that were copied all the same, and the way is one where they always are.
constexpr std::uint64_t most_copied = 2;
}  // namespace

// Bulk alone. What is left of an arena that was lent goes plainly.
bool link::lend() noexcept {
    if (_options.send_zero_copy == link_options::zero_copy::off || _loan != nullptr || _ended ||
        _sealed - _sent < least_lent_bytes || _early_arena != nullptr)
        return false;
    _loan = _worker.loans().send(*this, _descriptor, _arena, {_arena + _sent, _sealed - _sent});
    return _lending = _loan != nullptr;
}

void link::on_lent_sent(ring::completion c) noexcept {
    _lending = false;
    // A kernel that cannot tell, or does not do it, or may not hold so much (RLIMIT_MEMLOCK) has
    // sent nothing: these bytes go plainly, and all that follow.
    if (c.result == -EINVAL || c.result == -EOPNOTSUPP || c.result == -ENOMEM) {
        _options.send_zero_copy = link_options::zero_copy::off;
        c.result = -EAGAIN;
    }
    on_sent(c);
}

void link::on_lent_back(bool copied) noexcept {
    ++_counters.zero_copy_sends;
    _counters.zero_copy_copied += copied ? 1 : 0;
    if (_options.send_zero_copy == link_options::zero_copy::wanted &&
        _counters.zero_copy_copied >= most_copied)
        _options.send_zero_copy = link_options::zero_copy::off;
}

}  // namespace burin::engine
