// What of the terminator depends on the family: how large a segment is.
#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

namespace {

void make_v6(stage& s) {
    s.key.source.bytes = {0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    s.key.destination.bytes = {0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
}

}  // namespace

TEST_CASE("over IPv6 the device's MTU leaves 20 bytes less for a segment") {
    stage s;
    make_v6(s);
    s.host_mss = 9000;
    s.open();
    CHECK(s.flow->segment_bytes() == 1440);
    s.flow->accept(1 << 20, s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    CHECK(out[0].head.ip_version == 6);
    CHECK(out[0].head.options.mss == 1440);
    CHECK(out[0].head.key.source == s.key.destination);
}

TEST_CASE("a host that names no segment size takes 1220 bytes over IPv6, 536 over IPv4") {
    for (const bool v6 : {false, true}) {
        stage s;
        if (v6) make_v6(s);
        parsed_frame syn = s.frame({tcp_syn, 0, 0});
        syn.options.mss = 0;
        s.flow = std::make_unique<tcp_flow>(s.context, syn, s.now);
        CHECK(s.flow->segment_bytes() == (v6 ? 1220 : 536));
    }
}

TEST_CASE("superframes over IPv6 are of whole segments and fit a packet") {
    stage s;
    make_v6(s);
    s.host_mss = 1440;
    s.establish();
    const std::string data(200'000, 'x');
    REQUIRE(s.flow->send(still(data), s.now));
    const auto out = s.turn();
    REQUIRE_FALSE(out.empty());
    CHECK(out[0].head.gso_type == virtio_gso_tcp_v6);
    CHECK(out[0].head.gso_size == 1440);
    CHECK(out[0].data.size() % 1440 == 0);
    CHECK(out[0].data.size() + 60 <= max_packet_bytes);
}

TEST_CASE("a packet too big counts the headers of its family") {
    for (const bool v6 : {false, true}) {
        stage s;
        if (v6) make_v6(s);
        s.host_mss = 1400;
        s.establish();
        s.flow->on_packet_too_big(1300);
        CHECK(s.flow->segment_bytes() == (v6 ? 1240 : 1260));
    }
}

TEST_CASE("an ICMP error about the SYN-ACK is about what is in flight") {
    stage s;
    s.open();
    s.flow->accept(1000, s.now);
    s.turn();
    CHECK(s.flow->is_in_flight(s.our_first));
    CHECK_FALSE(s.flow->is_in_flight(s.our_first + 1));
}
