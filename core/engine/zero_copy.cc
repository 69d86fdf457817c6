#include "core/engine/zero_copy.hh"

#include <utility>

#include "ring/uring_abi.hh"

namespace burin::engine {

zero_copy_loans::zero_copy_loans(ring::ring& r, std::function<void(std::byte*)> give_back)
    : _ring(r), _give_back(std::move(give_back)) {
    for (loan& l : _loans) l._all = this;
}

zero_copy_loans::loan* zero_copy_loans::send(zero_copy_borrower& borrower, int descriptor,
                                             std::byte* arena,
                                             std::span<const std::byte> bytes) noexcept {
    if (_lent == most) return nullptr;
    loan* free = nullptr;
    std::size_t of_one = 0;
    for (loan& l : _loans) {
        if (l._arena == nullptr)
            free = &l;
        else if (l._borrower == &borrower)
            ++of_one;
    }
    if (free == nullptr || of_one >= most_of_one) return nullptr;
    ++_lent;
    free->_borrower = &borrower;
    free->_arena = arena;
    free->_session_has = free->_sending = true;
    free->_kernel_has = false;
    _ring.send_zero_copy(free->_op, descriptor, bytes);
    return free;
}

void zero_copy_loans::loan::on_completion(ring::completion c) noexcept {
    if ((c.flags & ring::abi::cqe_notification) != 0) {
        _kernel_has = false;
        const bool copied =
            (static_cast<std::uint32_t>(c.result) & ring::abi::notification_copied) != 0;
        if (_borrower != nullptr) _borrower->on_lent_back(copied);
        return _all->settle(*this);
    }
    _sending = false;
    _kernel_has = c.more();
    if (_borrower != nullptr) _borrower->on_lent_sent(c);
}

void zero_copy_loans::give_back(loan& l) noexcept {
    l._session_has = false;
    settle(l);
}

void zero_copy_loans::cancel(ring::op& with, const loan& l) noexcept {
    _ring.cancel(with, l._op);
}

void zero_copy_loans::forget(zero_copy_borrower& borrower) noexcept {
    for (loan& l : _loans) {
        if (l._arena == nullptr || l._borrower != &borrower) continue;
        l._borrower = nullptr;
        if (l._session_has) give_back(l);
    }
}

void zero_copy_loans::settle(loan& l) noexcept {
    if (l._arena == nullptr || l._kernel_has || l._session_has || l._sending) return;
    std::byte* arena = std::exchange(l._arena, nullptr);
    l._borrower = nullptr;
    --_lent;
    _give_back(arena);
}

}  // namespace burin::engine
