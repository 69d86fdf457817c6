// The seam between ring/ring.cc and liburing, with faults in it: a program that is linked with this
// file has each of liburing's calls below replaced (the linker's --wrap), so that the ring is the
// one that ships, byte for byte, and the kernel seems to be short of everything.
//
// An operation that is to fail goes to the kernel as one that does nothing, and its completion gets
// the result before the ring looks at it. One that is to be late has its completion hidden; a
// timeout of the kernel with the same name brings it back, and so does whoever cancels it
// meanwhile.
#include <liburing.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "ring/ring.hh"
#include "ring/uring_abi.hh"
#include "tests/faults/control.hh"

extern "C" {
int __real_io_uring_queue_init_params(unsigned, io_uring*, io_uring_params*);
void __real_io_uring_queue_exit(io_uring*);
int __real_io_uring_submit(io_uring*);
int __real_io_uring_submit_and_get_events(io_uring*);
int __real_io_uring_submit_and_wait_timeout(io_uring*, io_uring_cqe**, unsigned, __kernel_timespec*,
                                            sigset_t*);
}

namespace burin::faults {

namespace {

constexpr std::uint32_t most_late_ms = 20;

// What a completion of this name is to become.
struct fate {
    enum class kind : std::uint8_t { fails, will_be_late, is_late };
    kind what;
    int result = 0;
    std::uint32_t flags = 0;
};

// A sendmsg of fewer bytes; the kernel copies both when it is submitted.
struct short_message {
    msghdr message;
    std::vector<iovec> parts;
};

struct ring_state {
    unsigned seen_submissions = 0, seen_completions = 0;
    std::unordered_map<std::uint64_t, fate> fates;
    std::deque<short_message> messages;
};

std::unordered_map<io_uring*, ring_state>& states() {
    static thread_local std::unordered_map<io_uring*, ring_state> all;
    return all;
}

operation operation_of(const io_uring_sqe& sqe) {
    switch (sqe.opcode) {
        case IORING_OP_RECV: return operation::receive;
        case IORING_OP_RECVMSG:
            return (sqe.ioprio & IORING_RECV_MULTISHOT) != 0 ? operation::receive_messages
                                                             : operation::receive_message;
        case IORING_OP_SEND: return operation::send;
        case IORING_OP_SEND_ZC: return operation::send_zero_copy;
        case IORING_OP_SENDMSG: return operation::send_message;
        case IORING_OP_ACCEPT: return operation::accept;
        case IORING_OP_CONNECT: return operation::connect;
        case IORING_OP_ASYNC_CANCEL: return operation::cancel;
        case IORING_OP_CLOSE: return operation::close;
        case IORING_OP_POLL_ADD: return operation::poll;
        case IORING_OP_READ:
            return (sqe.flags & IOSQE_BUFFER_SELECT) != 0 ? operation::read_frames
                                                          : operation::read;
        case ring::abi::op_read_multishot: return operation::read_frames;
        case IORING_OP_WRITEV: return operation::write_vector;
        case IORING_OP_MSG_RING: return operation::message;
        default: return operation::count;
    }
}

bool is_stream(int fd) {
    int type = 0;
    socklen_t bytes = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_STREAM;
}

bool error_or_late(rule::kind k) {
    return k != rule::kind::cut;
}
bool any(rule::kind) {
    return true;
}
bool error_alone(rule::kind k) {
    return k == rule::kind::error;
}

void cut(ring_state& state, io_uring_sqe& sqe) {
    dice& random = dice::mine();
    if (sqe.opcode != IORING_OP_SENDMSG) {
        if (sqe.len > 1) sqe.len = 1 + random.number(sqe.len - 1);
        return;
    }
    msghdr message;
    std::memcpy(&message, reinterpret_cast<const void*>(sqe.addr), sizeof message);
    std::size_t all = 0;
    for (std::size_t i = 0; i < message.msg_iovlen; ++i) all += message.msg_iov[i].iov_len;
    if (all < 2) return;
    std::size_t left = 1 + random.number(static_cast<std::uint32_t>(all - 1));
    short_message& made = state.messages.emplace_back();
    for (std::size_t i = 0; left > 0; ++i) {
        made.parts.push_back(message.msg_iov[i]);
        iovec& last = made.parts.back();
        last.iov_len = std::min(last.iov_len, left);
        left -= last.iov_len;
    }
    made.message = message;
    made.message.msg_iov = made.parts.data();
    made.message.msg_iovlen = made.parts.size();
    sqe.addr = reinterpret_cast<std::uint64_t>(&made.message);
}

void prepare(ring_state& state, io_uring_sqe& sqe) {
    const operation o = operation_of(sqe);
    if (o == operation::count) return;
    const bool can_be_cut = o == operation::receive || o == operation::send ||
                            o == operation::send_zero_copy ||
                            (o == operation::send_message && is_stream(sqe.fd));
    // Without a name there is nobody to tell.
    const bool named = sqe.user_data != 0;
    const rule* r = dice::mine().roll(o, can_be_cut ? any : error_or_late);
    if (r == nullptr || !named) return;
    switch (r->what) {
        case rule::kind::cut: cut(state, sqe); break;
        case rule::kind::late:
            // What completes without a word has no completion that could be late.
            if ((sqe.flags & IOSQE_CQE_SKIP_SUCCESS) == 0)
                state.fates[sqe.user_data] = {fate::kind::will_be_late};
            break;
        case rule::kind::error: {
            const std::uint64_t name = sqe.user_data;
            std::memset(&sqe, 0, sizeof sqe);
            sqe.opcode = IORING_OP_NOP;
            sqe.user_data = name;
            state.fates[name] = {fate::kind::fails, -r->error};
            break;
        }
    }
}

// What the ring has written into its queue since the last time.
void look_at_submissions(io_uring* ring, ring_state& state) {
    io_uring_sq& sq = ring->sq;
    for (; state.seen_submissions != sq.sqe_tail; ++state.seen_submissions)
        prepare(state, sq.sqes[state.seen_submissions & sq.ring_mask]);
}

bool hold_back(io_uring* ring, ring_state& state, std::uint64_t name) {
    static const auto waits = [] {
        std::array<__kernel_timespec, most_late_ms> all{};
        for (std::uint32_t i = 0; i < most_late_ms; ++i) all[i].tv_nsec = (i + 1) * 1'000'000;
        return all;
    }();
    io_uring_sqe* sqe = io_uring_get_sqe(ring);
    if (sqe == nullptr) return false;
    ++state.seen_submissions;
    auto* wait = const_cast<__kernel_timespec*>(&waits[dice::mine().number(most_late_ms)]);
    io_uring_prep_timeout(sqe, wait, 0, 0);
    io_uring_sqe_set_data64(sqe, name);
    return true;
}

void look_at_completions(io_uring* ring, ring_state& state) {
    io_uring_cq& cq = ring->cq;
    const unsigned tail = io_uring_smp_load_acquire(cq.ktail);
    for (; state.seen_completions != tail; ++state.seen_completions) {
        io_uring_cqe& cqe = cq.cqes[state.seen_completions & cq.ring_mask];
        auto at = state.fates.find(cqe.user_data);
        if (at == state.fates.end()) continue;
        fate& f = at->second;
        switch (f.what) {
            case fate::kind::will_be_late:
                // Those of one operation keep their order, so only its last waits.
                if ((cqe.flags & IORING_CQE_F_MORE) != 0) continue;
                if (!hold_back(ring, state, cqe.user_data)) break;
                f = {fate::kind::is_late, cqe.res, cqe.flags};
                cqe.user_data = 0;
                continue;
            case fate::kind::is_late:
            case fate::kind::fails:
                cqe.res = f.result;
                cqe.flags = f.flags;
                break;
        }
        state.fates.erase(at);
    }
}

template <class Call>
int enter(io_uring* ring, Call call) {
    ring_state& state = states()[ring];
    look_at_submissions(ring, state);
    if (const rule* r = dice::mine().roll(operation::enter, error_alone)) return -r->error;
    const int result = call();
    if (io_uring_sq_ready(ring) == 0) state.messages.clear();
    look_at_completions(ring, state);
    return result;
}

}  // namespace

}  // namespace burin::faults

using namespace burin::faults;

extern "C" {

int __wrap_io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* params) {
    const plan& p = dice::mine().now();
    if (p.submissions != 0) entries = p.submissions;
    if (p.completions != 0) params->cq_entries = p.completions;
    const int result = __real_io_uring_queue_init_params(entries, ring, params);
    if (result >= 0) states()[ring] = {};
    return result;
}

void __wrap_io_uring_queue_exit(io_uring* ring) {
    states().erase(ring);
    __real_io_uring_queue_exit(ring);
}

int __wrap_io_uring_submit(io_uring* ring) {
    return enter(ring, [&] { return __real_io_uring_submit(ring); });
}

int __wrap_io_uring_submit_and_get_events(io_uring* ring) {
    return enter(ring, [&] { return __real_io_uring_submit_and_get_events(ring); });
}

int __wrap_io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** cqe, unsigned wait,
                                            __kernel_timespec* time, sigset_t* mask) {
    return enter(
        ring, [&] { return __real_io_uring_submit_and_wait_timeout(ring, cqe, wait, time, mask); });
}

}  // extern "C"
