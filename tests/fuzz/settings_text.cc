// Durations, sizes, addresses and prefixes, as people write them.
#include <string>
#include <vector>

#include "core/engine/byte_count.hh"
#include "core/engine/duration.hh"
#include "core/relay/endpoint.hh"
#include "tests/fuzz/target.hh"
#include "tun/cidr.hh"

namespace {

using namespace burin;
using fuzz::check;

void read_duration(std::string_view text) {
    const auto got = engine::parse_duration(text);
    if (!got) return;
    const auto again = engine::parse_duration(engine::duration_text(*got));
    check(again == got, "a duration can be written");
}

void read_size(std::string_view text, fuzz::script number) {
    const auto got = engine::parse_byte_count(text);
    if (got) check(!engine::byte_count(*got).empty(), "a size can be written");
    const std::uint64_t any = std::uint64_t{number.u32()} << number.pick(33) | number.u32();
    check(engine::byte_count(any).size() < 12, "in few characters");
    const std::string digits = std::to_string(any);
    check(engine::parse_byte_count(digits) == any, "a bare number counts bytes");
}

void read_endpoint(std::string_view text) {
    const auto got = relay::endpoint::literal(text, 80);
    const auto plain = tun::ip_address::parse(text);
    if (plain) check(got.has_value(), "an address is one for a socket");
    if (!got) return;
    const auto again = relay::endpoint::from(got->address(), got->bytes());
    check(again && *again == *got && again->text() == got->text(), "an address can be copied");
    check(got->text().ends_with(":80"), "it has its port");
    if (!plain) return;
    check(tun::ip_address::parse(plain->text()) == plain, "an address can be written");
    const auto from = tun::ip_address::from(*got->address());
    check(from && (*from == *plain || from->family() != plain->family()), "or taken from a socket");
    sockaddr_storage socket;
    check(plain->socket_address(80, socket) == got->bytes(), "and given to one");
    check(plain->loopback() == got->loopback(), "loopback is loopback");
}

void read_prefix(std::string_view text) {
    const auto interface = tun::parse_interface(text);
    if (interface) {
        const auto again = tun::parse_interface(interface.value().text());
        check(again && again.value() == interface.value(), "an interface's address can be written");
    }
    const auto network = tun::parse_network(text);
    if (!network) return;
    check(network.value().network() == network.value().address, "a network has no host bits");
    const auto again = tun::parse_network(network.value().text());
    check(again && again.value() == network.value(), "a network can be written");
}

// What is left of a prefix covers exactly what was not excluded.
void cut(std::string_view text) {
    std::vector<tun::cidr> all;
    while (!text.empty() && all.size() < 8) {
        const std::size_t end = text.find(',');
        const auto one = tun::parse_network(text.substr(0, end));
        if (one) all.push_back(one.value());
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    if (all.empty()) return;
    const tun::cidr whole = all.front();
    const auto out = std::span(all).subspan(1);
    const std::vector<tun::cidr> left = tun::subtract(whole, out);
    check(std::is_sorted(left.begin(), left.end()), "prefixes are sorted");
    check(left.size() <= 1 + out.size() * 128, "and not many");
    for (const tun::cidr& a : left) {
        check(whole.contains(a), "nothing beyond the whole is left");
        for (const tun::cidr& b : out)
            check(!a.contains(b) && !b.contains(a), "nothing that was excluded is left");
        for (const tun::cidr& b : left) check(&a == &b || !a.contains(b), "no address twice");
    }
    // The edges of each exclusion, inside and just outside.
    for (const tun::cidr& b : out) {
        if (b.address.family() != whole.address.family() || b.prefix == 0) continue;
        const tun::ip_address beside = b.address.flipped(b.prefix - 1);
        const bool excluded = std::any_of(out.begin(), out.end(),
                                          [&](const tun::cidr& c) { return c.contains(beside); });
        const bool kept = std::any_of(left.begin(), left.end(),
                                      [&](const tun::cidr& c) { return c.contains(beside); });
        check(kept == (whole.contains(beside) && !excluded), "every other address is left");
    }
}

void run(bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.pick(5);
    const byte_vector bytes = fuzz::exact(in.rest());
    const std::string_view text = as_text(bytes);
    switch (what) {
        case 0: read_duration(text); break;
        case 1: read_size(text, fuzz::script(bytes)); break;
        case 2: read_endpoint(text); break;
        case 3: read_prefix(text); break;
        default: cut(text); break;
    }
}

const fuzz::target registered("settings_text", run,
                              "core/engine/duration.cc core/engine/byte_count.cc tun/cidr.cc "
                              "core/relay/endpoint.cc");

}  // namespace
