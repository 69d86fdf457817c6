#include "tun/ip_header.hh"

#include "tun/checksum.hh"

namespace burin::tun {

std::uint64_t pseudo_header_sum(const flow_key& flow, ip_protocol protocol,
                                std::size_t length) noexcept {
    const std::uint64_t rest = std::uint64_t{static_cast<std::uint8_t>(protocol)} + length;
    if (flow.source.is_v4()) {
        const std::uint32_t source = flow.source.to_v4();
        const std::uint32_t destination = flow.destination.to_v4();
        return rest + (source >> 16) + (source & 0xffff) + (destination >> 16) +
               (destination & 0xffff);
    }
    return checksum_add(std::as_bytes(std::span(flow.destination.bytes)),
                        checksum_add(std::as_bytes(std::span(flow.source.bytes)), rest));
}

void repair_ipv4_checksum(std::byte* header) noexcept {
    store_u16(header + 10, 0);
    store_u16(header + 10, checksum_finish(checksum_add({header, ipv4_header_bytes})));
}

void write_ip_header(std::byte* at, const flow_key& flow, ip_protocol protocol, std::size_t bytes,
                     std::uint8_t traffic_class) noexcept {
    if (flow.source.is_v4()) {
        store_u8(at, 0x45);
        store_u8(at + 1, traffic_class);
        store_u16(at + 2, static_cast<std::uint16_t>(ipv4_header_bytes + bytes));
        store_u16(at + 4, 0);       // identification: means nothing under DF (RFC 6864 section 4.1)
        store_u16(at + 6, 0x4000);  // don't fragment
        store_u8(at + 8, 64);
        store_u8(at + 9, static_cast<unsigned>(protocol));
        store_u32(at + 12, flow.destination.to_v4());
        store_u32(at + 16, flow.source.to_v4());
        repair_ipv4_checksum(at);
        return;
    }
    store_u32(at, 6u << 28 | std::uint32_t{traffic_class} << 20);
    store_u16(at + 4, static_cast<std::uint16_t>(bytes));
    store_u8(at + 6, static_cast<unsigned>(protocol));
    store_u8(at + 7, 64);
    __builtin_memcpy(at + 8, flow.destination.bytes.data(), 16);
    __builtin_memcpy(at + 24, flow.source.bytes.data(), 16);
}

}  // namespace burin::tun
