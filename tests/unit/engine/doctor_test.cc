// What `burin doctor` says of machines that are made up here.
#include "tools/doctor_judge.cc"

#include "tests/catch.hh"

using namespace burin;
using namespace burin::tools;

namespace {

// Nothing to change, seen by root.
machine good_machine() {
    machine m;
    m.kernel = "6.12.48-amd64";
    m.ring = {.tried = true, .worked = true, .why = {}};
    m.read_multishot = true;
    m.io_uring_disabled = 0;
    m.memlock_bytes = 8u << 20;
    m.files = 1u << 20;
    m.huge_pages = "madvise";
    m.processor = "A Processor";
    m.x86 = m.aes = m.vaes = m.avx512 = true;
    m.aes_library = "ipsec-mb";
    m.cores = 2;
    m.congestion = "cubic";
    m.congestion_available = {"reno", "cubic", "bbr"};
    m.congestion_allowed = {"reno", "cubic"};
    m.tcp_rmem = {4096, 131072, 64u << 20};
    m.tcp_wmem = {4096, 16384, 32u << 20};
    m.rmem_max = m.wmem_max = 4u << 20;
    m.root = m.net_admin = m.bpf = m.net_raw = true;
    m.tun = m.steering = {.tried = true, .worked = true, .why = {}};
    m.uso = true;
    m.ip_forward = 1;
    m.rp_filter = 2;
    m.ping_groups = {0, 2147483647};
    return m;
}

finding about(const machine& m, std::string_view subject) {
    for (const finding& f : judge(m))
        if (f.subject == subject) return f;
    FAIL("nothing is said about " << subject);
    return {};
}

bool speaks_of(const machine& m, std::string_view subject) {
    for (const finding& f : judge(m))
        if (f.subject == subject) return true;
    return false;
}

}  // namespace

TEST_CASE("a good machine is told that all is well, but for what depends on the paths") {
    const std::vector<finding> all = judge(good_machine());
    CHECK(can_run(all));
    CHECK(all.size() == 16);
    for (const finding& f : all) {
        CAPTURE(f.subject, f.seen);
        CHECK(f.value == (f.subject == "congestion control" ? verdict::note : verdict::ok));
        CHECK(!f.seen.empty());
    }
}

TEST_CASE("whatever is not ok says what it gains, and what to change unless there is nothing") {
    machine bare;  // nothing could be seen
    machine poor = good_machine();
    poor.memlock_bytes = 64u << 10;
    poor.root = poor.net_admin = poor.net_raw = false;
    poor.files = 1024;
    poor.huge_pages = "never";
    poor.aes = false;
    poor.cores = 16;
    poor.congestion = "bbr";
    poor.tcp_rmem = poor.tcp_wmem = {4096, 16384, 4u << 20};
    poor.rmem_max = 212992;
    poor.tun = {.tried = true, .worked = false, .why = "no /dev/net/tun"};
    poor.steering = {.tried = true, .worked = false, .why = "not permitted"};
    poor.ip_forward = 0;
    poor.rp_filter = 1;
    poor.ping_groups = {1, 0};
    for (const machine& m : {bare, poor})
        for (const finding& f : judge(m)) {
            CAPTURE(f.subject, f.seen);
            const bool unseen = f.seen.ends_with("could not be seen");
            CHECK((f.value == verdict::ok || unseen || !f.gain.empty()));
            CHECK((f.value == verdict::ok || unseen || !f.change.empty()));
            CHECK((f.value != verdict::ok || f.change.empty()));
        }
    for (std::string_view subject :
         {"locked memory", "descriptors", "processor", "socket buffers", "TUN"})
        CHECK(about(poor, subject).value == verdict::warning);
    for (std::string_view subject :
         {"huge pages", "cores", "congestion control", "tcp receive buffer", "tcp send buffer",
          "steering", "forwarding", "reverse paths", "pings"})
        CHECK(about(poor, subject).value == verdict::note);
    CHECK(can_run(judge(poor)));
}

TEST_CASE("without a ring there is no tunnel, and the sentence says why and what to change") {
    machine m = good_machine();
    m.kernel = "5.10.0";
    m.ring = {.tried = true, .worked = false, .why = "io_uring cannot be used: reasons"};
    finding f = about(m, "io_uring");
    CHECK(f.value == verdict::warning);
    CHECK(f.prevents);
    CHECK_FALSE(can_run(judge(m)));
    CHECK(f.seen == "kernel 5.10.0: io_uring cannot be used: reasons");
    CHECK(f.change.find("6.1") != f.change.npos);
    m.io_uring_disabled = 2;
    CHECK(about(m, "io_uring").change == "sysctl -w kernel.io_uring_disabled=0");
    m.io_uring_disabled = 0;
    m.memlock_bytes = 0;
    CHECK(about(m, "io_uring").change.starts_with("ulimit -l"));
    CHECK(as_text(judge(m)).ends_with("\nA tunnel cannot run here.\n"));
    m = good_machine();
    m.io_uring_disabled = 1;
    CHECK(about(m, "io_uring").value == verdict::note);
    m.io_uring_disabled.reset();
    m.read_multishot = false;
    CHECK(about(m, "io_uring").change.find("6.7") != std::string::npos);
    CHECK(can_run(judge(m)));
}

TEST_CASE("buffers are held against 1 Gbit/s over 200 ms") {
    CHECK(path_bytes == 25'000'000);
    machine m = good_machine();
    m.tcp_wmem = {4096, 16384, 24'999'999};
    CHECK(about(m, "tcp send buffer").change ==
          "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 25000000\"");
    m.tcp_wmem = {4096, 16384, 25'000'000};
    CHECK(about(m, "tcp send buffer").value == verdict::ok);
    m.tcp_rmem = {4096, 131072, 49'999'999};
    CHECK(about(m, "tcp receive buffer").change ==
          "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 50000000\"");
    m.tcp_rmem = {4096, 131072, 50'000'000};
    CHECK(about(m, "tcp receive buffer").value == verdict::ok);
    // A client may raise its sockets' buffers itself; a server does not.
    m.tcp_rmem = m.tcp_wmem = {4096, 16384, 4096};
    for (const bool may : {true, false}) {
        m.net_admin = may;
        for (const char* subject : {"tcp receive buffer", "tcp send buffer"}) {
            CHECK(about(m, subject).value == verdict::note);
            CHECK((about(m, subject).seen.find("CAP_NET_ADMIN") != std::string::npos) == may);
            CHECK((about(m, subject).gain.find("a server needs it") != std::string::npos) == may);
        }
    }
    m.rmem_max = (4u << 20) - 1;
    CHECK(about(m, "socket buffers").change == "sysctl -w net.core.rmem_max=4194304");
}

TEST_CASE("processors are told apart by what seals on them") {
    machine m = good_machine();
    m.vaes = false;
    finding f = about(m, "processor");
    CHECK(f.value == verdict::note);
    CHECK(f.gain.find("docs/performance.md") != f.gain.npos);
    m.aes_library = "openssl";
    CHECK(about(m, "processor").value == verdict::warning);
    m = good_machine();
    m.x86 = m.vaes = m.avx512 = false;  // ARM
    m.aes_library = "openssl";
    CHECK(about(m, "processor").value == verdict::ok);
    m.aes = false;
    CHECK(about(m, "processor").value == verdict::warning);
}

TEST_CASE("a TUN device that nobody could try for is not said to be missing") {
    machine m = good_machine();
    m.root = m.net_admin = false;
    CHECK(about(m, "TUN").value == verdict::note);
    CHECK(about(m, "TUN").seen.find("CAP_NET_ADMIN") != std::string::npos);
    m.tun = {};
    m.uso = false;
    m.tun_not_to_be_seen = "no network namespace of its own";
    CHECK(about(m, "TUN").change == "sudo burin doctor");
    CHECK_FALSE(speaks_of(m, "UDP superframes"));
    m = good_machine();
    m.uso = false;
    CHECK(about(m, "UDP superframes").change.find("6.2") != std::string::npos);
    m.steering = {};
    CHECK_FALSE(speaks_of(m, "steering"));
}

TEST_CASE("the way to a server is looked at when one is named") {
    machine m = good_machine();
    CHECK_FALSE(speaks_of(m, "way to the server"));
    m.way = server_way{
        .address = "192.0.2.1:8080", .interface = "eth0", .mtu_bytes = 1500, .error = {}};
    CHECK(about(m, "way to the server").value == verdict::ok);
    CHECK(about(m, "way to the server").seen == "192.0.2.1:8080 by eth0, MTU 1500");
    m.way->mtu_bytes = 1420;
    CHECK(about(m, "way to the server").value == verdict::note);
    m.way->mtu_bytes = 576;
    CHECK(about(m, "way to the server").change.starts_with("ip link set dev eth0 mtu 1500"));
    m.way = server_way{.address = {}, .interface = {}, .mtu_bytes = 0, .error = "no way"};
    CHECK(about(m, "way to the server").value == verdict::warning);
    CHECK(can_run(judge(m)));
}

TEST_CASE("text and JSON say the same, whatever bytes are in it") {
    machine m = good_machine();
    m.processor = "odd\x1b[31m\xff\n";
    m.congestion = "bbr";
    const std::vector<finding> all = judge(m);
    const std::string text = as_text(all);
    CHECK(text.find('\x1b') == text.npos);
    CHECK(text.ends_with("\nA tunnel can run here; 0 warnings.\n"));
    const auto read = nlohmann::json::parse(as_json(all));
    CHECK(read["can_run"] == true);
    REQUIRE(read["findings"].size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& one = read["findings"][i];
        CHECK(one["subject"] == all[i].subject);
        CHECK(one["verdict"] == word(all[i].value));
        CHECK(one["change"] == all[i].change);
        CHECK(one["gain"] == all[i].gain);
        CHECK(text.find(all[i].subject + ": ") != text.npos);
    }
}
