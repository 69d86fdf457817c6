// The steering program on packets of the test's making, run by the kernel, beside the bucket that
// user space gives the flow; the table's rules; and a real device with queues. The kernel's part
// needs root.
#include "tun/steering.hh"

#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <random>

#include "tests/catch.hh"
#include "tests/unit/tun/namespace.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/device.hh"
#include "tun/frame.hh"
#include "tun/routes.hh"

using namespace burin;
using namespace burin::tun;
using hand::octets;
using hand::operator+;

namespace {

steering_key random_key(std::mt19937_64& random) {
    steering_key key;
    for (std::uint64_t& factor : key.addresses) factor = random();
    key.ports = random();
    key.protocol = random();
    return key;
}

unsigned fresh_seed() {
    const unsigned seed = std::random_device{}();
    return seed;
}

// What the program answers for a packet: the kernel's test run of it wants an Ethernet header, and
// takes it off again.
unsigned run(const steering& s, const octets& packet) {
    octets frame(12);
    frame = frame + hand::be16(!packet.empty() && packet[0] >> 4 == 6 ? 0x86dd : 0x0800) + packet;
    bpf_attr attributes{};
    attributes.test.prog_fd = static_cast<__u32>(s.program());
    attributes.test.data_in = reinterpret_cast<__u64>(frame.data());
    attributes.test.data_size_in = static_cast<__u32>(frame.size());
    const long outcome = syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof attributes);
    INFO("errno " << errno);
    REQUIRE(outcome == 0);
    return attributes.test.retval;
}

// The key that a frame's parser finds.
flow_key key_of(const octets& packet) {
    const byte_vector frame = hand::frame(packet);
    parsed_frame parsed;
    const frame_kind kind = parse_frame(frame, parsed);
    INFO(to_text(kind));
    REQUIRE((kind == frame_kind::tcp || kind == frame_kind::udp || kind == frame_kind::icmp));
    return parsed.key;
}

flow_key without_ports(flow_key key) {
    key.protocol = ip_protocol::icmp;
    key.source_port = key.destination_port = 0;
    return key;
}

hand::ends random_ends(std::mt19937_64& random, bool v6) {
    auto address = [&] {
        octets a;
        for (int i = 0; i < (v6 ? 16 : 4); ++i) a.push_back(static_cast<std::uint8_t>(random()));
        a[0] = v6 ? 0xfd : 10;
        return a;
    };
    octets from = address();
    return {from, address()};
}

octets with_ipv4_options(octets packet, std::size_t words) {
    packet[0] = static_cast<std::uint8_t>(0x45 + words);
    packet.insert(packet.begin() + 20, 4 * words, 1);  // no operation
    hand::put16(packet, 2, static_cast<unsigned>(packet.size()));
    hand::put16(packet, 10, 0);
    hand::put16(
        packet, 10,
        ~hand::sum(octets(packet.begin(), packet.begin() + 20 + 4 * static_cast<int>(words))));
    return packet;
}

// So many queues that a wrong bucket shows.
constexpr unsigned many_queues = 251;
std::unique_ptr<steering> load(const steering_key& key) {
    auto loaded = steering::load(key, many_queues);
    INFO((loaded ? std::string() : loaded.error().what));
    REQUIRE(loaded.ok());
    return std::move(loaded).value();
}

}  // namespace

#define NEEDS_ROOT()                 \
    if (geteuid() != 0) {            \
        WARN("skipped: needs root"); \
        return;                      \
    }

TEST_CASE("the kernel and user space agree on every flow's bucket", "[steering]") {
    NEEDS_ROOT();
    const unsigned seed = fresh_seed();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    const steering_key key = random_key(random);
    const auto s = load(key);
    std::vector<unsigned> met(many_queues);
    for (int i = 0; i < 6000; ++i) {
        const bool v6 = random() % 2 == 0;
        const hand::ends e = random_ends(random, v6);
        const auto from = static_cast<unsigned>(1 + random() % 65535);
        const auto to = static_cast<unsigned>(1 + random() % 65535);
        const octets data = hand::filler(random() % 64, static_cast<unsigned>(random()));
        octets packet = random() % 2 == 0
                            ? hand::ip(e, 6,
                                       hand::tcp(e, from, to, static_cast<std::uint32_t>(random()),
                                                 0, static_cast<unsigned>(random() % 64), data))
                            : hand::ip(e, 17, hand::udp(e, from, to, data));
        if (!v6 && random() % 4 == 0) packet = with_ipv4_options(packet, 1 + random() % 10);
        const unsigned queue = bucket_of(key, key_of(packet)) % many_queues;
        CAPTURE(i, v6, from, to);
        REQUIRE(run(*s, packet) == queue);
        ++met[queue];
    }
    // 6000 balls in 251 bins: 24 each, and 60 in one is beyond seven deviations.
    CHECK(*std::min_element(met.begin(), met.end()) > 0);
    CHECK(*std::max_element(met.begin(), met.end()) < 60);
}

TEST_CASE("what has no ports in sight goes by its addresses alone", "[steering]") {
    NEEDS_ROOT();
    const unsigned seed = fresh_seed();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    const steering_key key = random_key(random);
    const auto s = load(key);
    for (int i = 0; i < 200; ++i) {
        const bool v6 = i % 2 == 0;
        const hand::ends e = random_ends(random, v6);
        const octets udp = hand::udp(e, 1000 + random() % 1000, 53, hand::filler(600));
        const flow_key flow = key_of(hand::ip(e, 17, udp));
        const unsigned queue = bucket_of(key, without_ports(flow)) % many_queues;
        CAPTURE(i, v6);
        // Fragments: the first has the ports, the others look as if.
        const auto id = static_cast<std::uint32_t>(random());
        const octets first(udp.begin(), udp.begin() + 304), rest(udp.begin() + 304, udp.end());
        CHECK(run(*s, hand::fragment(e, 17, first, 0, true, id)) == queue);
        CHECK(run(*s, hand::fragment(e, 17, rest, 304, false, id)) == queue);
        // Questions and errors, and what nobody carries.
        const octets echo = hand::icmp(e, v6 ? 128 : 8, 0, 7, hand::text("ping"));
        CHECK(run(*s, hand::ip(e, hand::icmp_protocol(e), echo)) == queue);
        const octets error = hand::icmp(e, v6 ? 1 : 3, 3, 0, hand::ip(e.back(), 17, udp));
        CHECK(run(*s, hand::ip(e, hand::icmp_protocol(e), error)) == queue);
        CHECK(run(*s, hand::ip(e, 132, hand::filler(40))) == queue);
        if (!v6) continue;
        for (unsigned header : {0u, 43u, 60u})
            CHECK(run(*s, hand::ip(e, header, hand::extension(17, octets(6)) + udp)) == queue);
    }
}

TEST_CASE("a packet that is cut short, or is none, goes to the first queue", "[steering]") {
    NEEDS_ROOT();
    std::mt19937_64 random(1);
    const auto s = load(random_key(random));
    for (bool v6 : {false, true}) {
        const hand::ends e = v6 ? hand::lan6 : hand::lan4;
        const octets whole = hand::ip(e, 17, hand::udp(e, 1, 2, {}));
        const std::size_t header = v6 ? 40 : 20;
        const unsigned bucket = run(*s, whole);
        // The kernel's test run itself wants the IP header to be there.
        for (std::size_t size = header; size < header + 4; ++size) {
            CAPTURE(v6, size);
            CHECK(run(*s, octets(whole.begin(), whole.begin() + static_cast<long>(size))) == 0);
        }
        CHECK(run(*s, octets(whole.begin(), whole.begin() + static_cast<long>(header + 4))) ==
              bucket);
    }
    octets odd(40, 0x55);
    CHECK(run(*s, odd) == 0);
    // A header length that points past the end.
    octets far = hand::ip(hand::lan4, 6, octets(8));
    far[0] = 0x4f;
    CHECK(run(*s, far) == 0);
}

TEST_CASE("buckets move with the sessions, and no further than they must", "[steering]") {
    const unsigned queues = GENERATE(1u, 2u, 3u, 7u, 256u);
    std::array<std::uint8_t, steering_buckets> memory{};
    steering_table table(memory, queues);
    auto all_at_home = [&] {
        for (unsigned b = 0; b < steering_buckets; ++b)
            if (table.queue(b) != table.home(b)) return false;
        return true;
    };
    std::map<unsigned, unsigned> homes;
    for (unsigned b = 0; b < steering_buckets; ++b) ++homes[table.home(b)];
    CHECK(homes.size() == queues);
    CHECK(all_at_home());
    // Any history of sessions and flows: a live home has its buckets, but for those that are pinned
    // to a live worker, which keeps what it took in; nothing goes to a worker without a session
    // while there is another.
    const unsigned seed = fresh_seed();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    std::vector<bool> live(queues);
    std::map<unsigned, unsigned> pins;
    auto unpin_one = [&] {
        table.unpin(pins.begin()->first);
        if (--pins.begin()->second == 0) pins.erase(pins.begin());
    };
    std::vector<unsigned> before(steering_buckets);
    for (int step = 0; step < 300; ++step) {
        const auto who = static_cast<unsigned>(random() % queues);
        for (unsigned b = 0; b < steering_buckets; ++b) before[b] = table.queue(b);
        bool pinned = false;
        switch (random() % 4) {
            case 0:
                pinned = true;
                for (int i = 0; i < 50; ++i) {
                    const auto b = static_cast<unsigned>(random() % steering_buckets);
                    ++pins[b];
                    table.pin(b);
                }
                break;
            case 1:
                for (int i = 0; i < 40 && !pins.empty(); ++i) unpin_one();
                break;
            case 2:
                live[who] = true;
                table.gained(who);
                break;
            default: live[who] = false; table.lost(who);
        }
        const bool any = std::find(live.begin(), live.end(), true) != live.end();
        unsigned wrong = 0;
        for (unsigned b = 0; b < steering_buckets; ++b) {
            const unsigned home = table.home(b), now = table.queue(b);
            bool right = now == home;  // without any session, and where the home has one
            if (pinned)
                right = now == before[b];  // a pin moves nothing
            else if (any && live[before[b]] && (!live[home] || pins.contains(b)))
                right = now == before[b];
            else if (any && !live[home])
                right = live[now];
            if (!right) ++wrong;
        }
        CAPTURE(queues, step, who);
        REQUIRE(wrong == 0);
    }
    while (!pins.empty()) unpin_one();
    for (unsigned q = 0; q < queues; ++q) table.gained(q);
    CHECK(all_at_home());
    for (unsigned q = 0; q < queues; ++q) table.lost(q);
    CHECK(all_at_home());
}

TEST_CASE("buckets of a worker without a session are shared out", "[steering]") {
    std::array<std::uint8_t, steering_buckets> memory{};
    steering_table table(memory, 4);
    for (unsigned q = 0; q < 4; ++q) table.gained(q);
    table.lost(2);
    std::map<unsigned, unsigned> count;
    for (unsigned b = 0; b < steering_buckets; ++b) ++count[table.queue(b)];
    CHECK(count.size() == 3);
    for (auto [queue, buckets] : count) {
        CAPTURE(queue);
        CHECK(buckets >= steering_buckets / 3);
        CHECK(buckets <= steering_buckets / 3 + 1);
    }
}

TEST_CASE("a pinned bucket stays until its last flow is over", "[steering]") {
    std::array<std::uint8_t, steering_buckets> memory{};
    steering_table table(memory, 2);
    constexpr unsigned one = 1001, other = 1003;  // at home in 1
    table.gained(0);
    REQUIRE(table.queue(one) == 0);
    table.pin(one);
    table.pin(one);
    table.gained(1);
    CHECK(table.queue(one) == 0);
    CHECK(table.queue(other) == 1);
    table.unpin(one);
    CHECK(table.queue(one) == 0);
    SECTION("and then goes home") {
        table.unpin(one);
        CHECK(table.queue(one) == 1);
    }
    SECTION("or until its worker has no session") {
        table.lost(0);
        CHECK(table.queue(one) == 1);
        table.gained(0);
        CHECK(table.queue(one) == 1);
        table.unpin(one);
        CHECK(table.queue(one) == 1);
    }
}

TEST_CASE("a device's frames come in on the queue that the table says", "[steering]") {
    NEEDS_NAMESPACE(inside);
    constexpr unsigned queues = 3;
    auto opened = device::open({"steered", queues});
    REQUIRE(opened.ok());
    const unsigned seed = fresh_seed();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    const steering_key key = random_key(random);
    auto loaded = steering::load(key, queues);
    REQUIRE(loaded.ok());
    steering& s = *loaded.value();
    REQUIRE_FALSE(s.attach(opened->queue(0)));
    CHECK(s.program() == -1);
    auto net = routes::open(opened->index(), opened->name());
    REQUIRE(net.ok());
    REQUIRE_FALSE(net->apply({{parse_interface("10.77.0.1/24").value()}, {}, {}}));

    descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    byte_vector frame(max_frame_bytes);
    std::array<unsigned, queues> met{};
    auto send = [&](unsigned port) {
        sockaddr_storage to{};
        const socklen_t size =
            ip_address::parse("10.77.0.9")->socket_address(static_cast<std::uint16_t>(port), to);
        REQUIRE(sendto(socket.number(), "x", 1, 0, reinterpret_cast<sockaddr*>(&to), size) == 1);
        // Other packets of the kernel's own may come in between.
        for (;;) {
            std::array<pollfd, queues> waits;
            for (unsigned q = 0; q < queues; ++q) waits[q] = {opened->queue(q), POLLIN, 0};
            REQUIRE(poll(waits.data(), queues, 10'000) > 0);
            for (unsigned q = 0; q < queues; ++q) {
                if ((waits[q].revents & POLLIN) == 0) continue;
                const ssize_t got = read(opened->queue(q), frame.data(), frame.size());
                REQUIRE(got > 0);
                parsed_frame parsed;
                if (parse_frame(bytes_view(frame).first(static_cast<std::size_t>(got)), parsed) !=
                        frame_kind::udp ||
                    parsed.key.destination_port != port)
                    continue;
                CHECK(s.queue(parsed.key) == q);
                ++met[q];
                return;
            }
        }
    };
    // Not one after another: with one key in 160 the products of such lie in step with the queues.
    const auto send_many = [&] {
        for (unsigned i = 0; i < 300; ++i) send(1 + static_cast<unsigned>(random() % 65535));
    };
    send_many();
    for (unsigned q = 0; q < queues; ++q) CHECK(met[q] > 40);
    CHECK(s.buckets_of(0) + s.buckets_of(1) + s.buckets_of(2) == steering_buckets);
    // Sessions come and go, and the next frame knows.
    s.gained(1);
    met = {};
    for (unsigned port = 1; port <= 50; ++port) send(port);
    CHECK(met == std::array<unsigned, queues>{0, 50, 0});
    CHECK(s.buckets_of(1) == steering_buckets);
    s.gained(0);
    s.lost(1);
    met = {};
    for (unsigned port = 1; port <= 50; ++port) send(port);
    CHECK(met == std::array<unsigned, queues>{50, 0, 0});
    s.gained(1);
    s.gained(2);
    met = {};
    send_many();
    for (unsigned q = 0; q < queues; ++q) CHECK(met[q] > 40);
}

TEST_CASE("CAP_BPF is enough, and without it the reason is told", "[steering]") {
    NEEDS_ROOT();
    int setting = 0;
    std::ifstream("/proc/sys/kernel/unprivileged_bpf_disabled") >> setting;
    const bool capable = GENERATE(false, true);
    const bool allowed = capable || setting == 0;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        __user_cap_header_struct whose{_LINUX_CAPABILITY_VERSION_3, 0};
        std::array<__user_cap_data_struct, 2> sets{};
        if (capable) sets[1].effective = sets[1].permitted = CAP_TO_MASK(CAP_BPF);
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setgid(65534) != 0 || setuid(65534) != 0 ||
            syscall(SYS_capset, &whose, sets.data()) != 0)
            _exit(2);
        auto loaded = steering::load({}, 2);
        const std::string said = loaded ? "loaded" : loaded.error().what;
        const bool right = allowed ? loaded.ok() : !loaded && loaded.error().code == EPERM;
        const ssize_t written = write(ends[1], said.data(), said.size());
        _exit(right && written > 0 ? 0 : 3);
    }
    close(ends[1]);
    char text[512] = {};
    const ssize_t got = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    INFO(text);
    CHECK(status == 0);
    REQUIRE(got > 0);
    CHECK((std::string(text).find("CAP_BPF") != std::string::npos) == !allowed);
}
