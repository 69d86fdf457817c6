// Sends without a copy (IORING_OP_SEND_ZC): the kernel keeps what is sent, in place, until nobody
// needs it any more, which for TCP is when the peer has acknowledged it. So an arena that was sent
// this way is lent: the session seals the next send into another one meanwhile.
//
// The kernel also says whether it really spared the copy. Where it did not (loopback, veth, devices
// that cannot gather), the session that was told so goes back to plain sends by itself; one whose
// kernel cannot tell (before Linux 6.2) never lends at all.
//
// One of these a worker; all of it on the worker's thread. It outlives its borrowers, and what they
// have lent outlives them here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "ring/ring.hh"

namespace burin::engine {

class zero_copy_borrower {
  public:
    // The bytes are on their way, or are not (negative errno): as a plain send completes. The arena
    // stays lent if c.more().
    virtual void on_lent_sent(ring::completion c) noexcept = 0;
    // The kernel needs an arena of this borrower no longer. `copied`: it had made a copy.
    virtual void on_lent_back(bool copied) noexcept = 0;

  protected:
    ~zero_copy_borrower() = default;
};

class zero_copy_loans {
  public:
    // Arenas that the kernel may keep at a time, of all sessions of the worker: peers that
    // acknowledge slowly, or are gone, hold no more than this. Of one session a quarter.
    static constexpr std::size_t most = 32, most_of_one = most / 4;

    class loan {
      public:
        loan() = default;

      private:
        friend class zero_copy_loans;
        void on_completion(ring::completion) noexcept;

        ring::member_op<&loan::on_completion> _op{this};
        zero_copy_loans* _all = nullptr;
        zero_copy_borrower* _borrower = nullptr;
        std::byte* _arena = nullptr;  // nullptr: nothing is lent
        bool _kernel_has = false;     // a notification is still to come
        bool _session_has = false;    // not given back by the borrower
        bool _sending = false;        // the send itself has not completed
    };

    // `give_back` takes an arena that nobody needs any more.
    zero_copy_loans(ring::ring&, std::function<void(std::byte*)> give_back);
    zero_copy_loans(const zero_copy_loans&) = delete;
    zero_copy_loans& operator=(const zero_copy_loans&) = delete;

    // Sends `bytes`, which lie in `arena`. nullptr: too much is lent already; send plainly. What
    // was lent is given back with give_back(), even after its send has failed.
    loan* send(zero_copy_borrower&, int descriptor, std::byte* arena,
               std::span<const std::byte> bytes) noexcept;
    // The borrower is done with the arena; it goes back when the kernel is as well.
    void give_back(loan&) noexcept;
    // Before on_lent_sent() was called: gives the send up.
    void cancel(ring::op& with, const loan&) noexcept;
    // The borrower goes: it is told nothing any more. None of its sends may be on its way.
    void forget(zero_copy_borrower&) noexcept;

    std::size_t lent() const noexcept { return _lent; }

  private:
    void settle(loan&) noexcept;

    ring::ring& _ring;
    std::function<void(std::byte*)> _give_back;
    std::array<loan, most> _loans;
    std::size_t _lent = 0;
};

}  // namespace burin::engine
