#include "tun/steering.hh"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace burin::tun {
namespace {

int call_bpf(bpf_cmd command, bpf_attr& attributes) noexcept {
    return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

template <std::size_t Size>
void name(char (&field)[Size], std::string_view text) noexcept {
    text.copy(field, Size - 1);
}

__u64 address_of(const void* at) noexcept {
    return reinterpret_cast<__u64>(at);
}

failure refused(std::string_view what) {
    const int error = errno;
    std::string text = "cannot " + std::string(what) + ": " + std::strerror(error);
    if (error == EPERM) text += "; it needs CAP_BPF, or kernel.unprivileged_bpf_disabled = 0";
    return {error, text};
}

}  // namespace

// ---- the table ----

steering_table::steering_table(std::span<std::uint8_t, steering_buckets> buckets, unsigned queues)
    : _buckets(buckets), _queues(queues), _live(queues), _pins(steering_buckets) {
    place_all();
}

unsigned steering_table::queue(unsigned bucket) const noexcept {
    return std::atomic_ref(_buckets[bucket]).load(std::memory_order_relaxed);
}

void steering_table::gained(unsigned queue) noexcept {
    if (lives(queue)) return;
    _live[queue] = 1;
    ++_live_count;
    place_all();
}

void steering_table::lost(unsigned queue) noexcept {
    if (!lives(queue)) return;
    _live[queue] = 0;
    --_live_count;
    place_all();
}

void steering_table::unpin(unsigned bucket) noexcept {
    if (--_pins[bucket] == 0) place(bucket);
}

void steering_table::place_all() noexcept {
    for (unsigned bucket = 0; bucket < steering_buckets; ++bucket) place(bucket);
}

void steering_table::place(unsigned bucket) noexcept {
    unsigned to = home(bucket);
    if (_live_count > 0) {
        const unsigned now = queue(bucket);
        if (lives(now) && (!lives(to) || _pins[bucket] > 0)) {
            to = now;
        } else if (!lives(to)) {
            while (!lives(_next)) _next = (_next + 1) % _queues;
            to = _next;
            _next = (_next + 1) % _queues;
        }
    }
    std::atomic_ref(_buckets[bucket])
        .store(static_cast<std::uint8_t>(to), std::memory_order_relaxed);
}

// ---- the kernel's part ----

outcome<std::unique_ptr<steering>> steering::load(const steering_key& key, unsigned queues) {
    std::unique_ptr<steering> made(new steering);
    made->_key = key;

    bpf_attr attributes{};
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = sizeof(std::uint32_t);
    attributes.value_size = steering_buckets;
    attributes.max_entries = 1;
    attributes.map_flags = BPF_F_MMAPABLE;
    name(attributes.map_name, "burin_queues");
    // Both descriptors are close-on-exec; the device holds the program, the program the map.
    descriptor map(call_bpf(BPF_MAP_CREATE, attributes));
    if (!map) return refused("make a table for steering");
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (steering_buckets + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map.number(), 0);
    if (memory == MAP_FAILED) return refused("share the table for steering");
    made->_memory = static_cast<std::uint8_t*>(memory);
    made->_memory_bytes = bytes;
    made->_table = std::make_unique<steering_table>(
        std::span<std::uint8_t, steering_buckets>(made->_memory, steering_buckets), queues);

    const std::vector<bpf_insn> program = assemble_steering(key, map.number());
    attributes = {};
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insn_cnt = static_cast<__u32>(program.size());
    attributes.insns = address_of(program.data());
    attributes.license = address_of("GPL");
    name(attributes.prog_name, "burin_steer");
    made->_program = descriptor(call_bpf(BPF_PROG_LOAD, attributes));
    if (!made->_program) return refused("load the program for steering");
    return made;
}

steering::~steering() {
    if (_memory != nullptr) munmap(_memory, _memory_bytes);
}

failure steering::attach(int queue) {
    int number = _program.number();
    if (ioctl(queue, TUNSETSTEERINGEBPF, &number) != 0)
        return refused("give the TUN device the program for steering");
    _program.close();
    return {};
}

unsigned steering::buckets_of(unsigned queue) const noexcept {
    unsigned count = 0;
    for (unsigned bucket = 0; bucket < steering_buckets; ++bucket)
        if (_table->queue(bucket) == queue) ++count;
    return count;
}

void steering::gained(unsigned queue) noexcept {
    std::lock_guard held(_changing);
    _table->gained(queue);
}

void steering::lost(unsigned queue) noexcept {
    std::lock_guard held(_changing);
    _table->lost(queue);
}

void steering::pin(const flow_key& flow) noexcept {
    std::lock_guard held(_changing);
    _table->pin(bucket_of(_key, flow));
}

void steering::unpin(const flow_key& flow) noexcept {
    std::lock_guard held(_changing);
    _table->unpin(bucket_of(_key, flow));
}

}  // namespace burin::tun
