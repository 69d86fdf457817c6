#include "tun/steering_program.hh"

#include <span>
#include <utility>

#include "crypto/wire.hh"

namespace burin::tun {
namespace {

constexpr unsigned bucket_shift = 64 - steering_bucket_bits;

// What the prefix ::ffff:0:0/96 of a mapped address adds, source and destination.
std::uint64_t mapped_prefixes(const steering_key& key) noexcept {
    return 0xffff * (key.addresses[2] + key.addresses[6]);
}

std::uint32_t word_of(const flow_address& address, std::size_t number) noexcept {
    return load_u32(std::as_bytes(std::span(address.bytes)).data() + 4 * number);
}

bool has_ports(ip_protocol protocol) noexcept {
    return protocol == ip_protocol::tcp || protocol == ip_protocol::udp;
}

// A registered use of each register. LD_ABS and LD_IND want the context in r6, give their word in
// r0, in the machine's order, and leave r7 to r9 alone; outside the packet they end the program
// with 0.
enum reg : std::uint8_t { result = 0, scratch = 1, context = 6, upper = 8, sum = 9 };

// Instructions in the order they run. Jumps go forward, to where land() is called for them.
class assembler {
  public:
    void put(unsigned code, unsigned to = 0, unsigned from = 0, int value = 0) {
        bpf_insn one{};
        one.code = static_cast<__u8>(code);
        one.dst_reg = to & 0xf;
        one.src_reg = from & 0xf;
        one.imm = value;
        _all.push_back(one);
    }
    void move(reg to, reg from) { put(BPF_ALU64 | BPF_MOV | BPF_X, to, from); }
    void set(reg to, int value) { put(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, value); }
    void add(reg to, reg from) { put(BPF_ALU64 | BPF_ADD | BPF_X, to, from); }
    void operate(unsigned operation, reg to, int value) {
        put(BPF_ALU64 | operation | BPF_K, to, 0, value);
    }
    // result = what stands in the packet at `offset`, of `size` BPF_B, BPF_H or BPF_W.
    void load(unsigned size, int offset) { put(BPF_LD | BPF_ABS | size, 0, 0, offset); }
    // The same, from where the upper layer begins.
    void load_upper(unsigned size) { put(BPF_LD | BPF_IND | size, 0, upper); }
    void set_wide(reg to, std::uint64_t value, unsigned kind = 0) {
        put(BPF_LD | BPF_IMM | BPF_DW, to, kind, static_cast<int>(value));
        put(0, 0, 0, static_cast<int>(value >> 32));
    }
    // sum += result * factor
    void count(std::uint64_t factor) {
        set_wide(scratch, factor);
        put(BPF_ALU64 | BPF_MUL | BPF_X, result, scratch);
        add(sum, result);
    }
    // Where the jump stands, for land().
    std::size_t jump_if(unsigned condition, reg what, int value) {
        put(BPF_JMP | condition | BPF_K, what, 0, value);
        return _all.size() - 1;
    }
    std::size_t jump() {
        put(BPF_JMP | BPF_JA);
        return _all.size() - 1;
    }
    void land(std::size_t from) { _all[from].off = static_cast<__s16>(_all.size() - from - 1); }
    std::vector<bpf_insn> take() { return std::move(_all); }

  private:
    std::vector<bpf_insn> _all;
};

}  // namespace

unsigned bucket_of(const steering_key& key, const flow_key& flow) noexcept {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        total += word_of(flow.source, i) * key.addresses[i];
        total += word_of(flow.destination, i) * key.addresses[4 + i];
    }
    if (has_ports(flow.protocol)) {
        total += (std::uint32_t{flow.source_port} << 16 | flow.destination_port) * key.ports;
        total += static_cast<std::uint8_t>(flow.protocol) * key.protocol;
    }
    return static_cast<unsigned>(total >> bucket_shift);
}

std::vector<bpf_insn> assemble_steering(const steering_key& key, int map) {
    assembler a;
    a.move(context, scratch);  // r1 is the packet
    a.load(BPF_B, 0);
    a.move(upper, result);
    a.operate(BPF_RSH, result, 4);
    const std::size_t is_v6 = a.jump_if(BPF_JEQ, result, 6);
    const std::size_t is_nothing = a.jump_if(BPF_JNE, result, 4);

    // RFC 791 section 3.1
    a.operate(BPF_AND, upper, 0xf);
    a.operate(BPF_LSH, upper, 2);
    a.set_wide(sum, mapped_prefixes(key));
    a.load(BPF_W, 12);
    a.count(key.addresses[3]);
    a.load(BPF_W, 16);
    a.count(key.addresses[7]);
    a.load(BPF_H, 6);
    const std::size_t is_fragment = a.jump_if(BPF_JSET, result, 0x3fff);
    a.load(BPF_B, 9);
    const std::size_t is_v4 = a.jump();

    // RFC 8200 section 3; a fragment header is an extension header.
    a.land(is_v6);
    a.set(sum, 0);
    for (int i = 0; i < 8; ++i) {
        a.load(BPF_W, 8 + 4 * i);
        a.count(key.addresses[static_cast<std::size_t>(i)]);
    }
    a.set(upper, 40);
    a.load(BPF_B, 6);

    a.land(is_v4);
    const std::size_t is_tcp = a.jump_if(BPF_JEQ, result, static_cast<int>(ip_protocol::tcp));
    const std::size_t is_other = a.jump_if(BPF_JNE, result, static_cast<int>(ip_protocol::udp));
    a.land(is_tcp);
    a.count(key.protocol);
    a.load_upper(BPF_W);
    a.count(key.ports);

    a.land(is_fragment);
    a.land(is_other);
    a.operate(BPF_RSH, sum, bucket_shift);
    a.set_wide(result, static_cast<std::uint32_t>(map), BPF_PSEUDO_MAP_VALUE);
    a.add(result, sum);
    a.put(BPF_LDX | BPF_MEM | BPF_B, result, result);
    a.put(BPF_JMP | BPF_EXIT);

    a.land(is_nothing);
    a.set(result, 0);
    a.put(BPF_JMP | BPF_EXIT);
    return a.take();
}

}  // namespace burin::tun
