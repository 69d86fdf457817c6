// Floods and leftovers at a TUN queue: SYNs to destinations that never answer, hosts that never
// answer, and everything that has to expire. Time is the test's own.
#include <deque>

#include "tests/unit/relay/tun_bench.hh"

using namespace burin;
using namespace burin::relay;

namespace {

// A queue of few half-open flows, whose far end leaves opens of its own accord unanswered.
struct flood_bench {
    explicit flood_bench(std::uint32_t most = 8, std::uint32_t most_flows = 1000,
                         bool takes_back = true)
        : b({.most_flows = most_flows, .half_open = {.most = most}}) {
        b.main.freeze();
        for (side* s : {b.entry.get(), b.exit.get()})
            if (takes_back) s->layer->set_takes_opens_back();
        b.exit->take = [this](ssh::channel& c, const ssh::channel_open&) {
            if (b.exit->next_descriptor >= 0) return false;  // dialled
            silent.emplace_back();
            silent.back().at = &c;
            silent.back().layer = b.exit->layer.get();
            c.end = &silent.back();
            return true;
        };
    }
    ~flood_bench() { b.exit->take = nullptr; }

    tun_host& syn(unsigned who, std::uint16_t port) {
        tun_host& h = b.host(port);
        h.key.source = tun::flow_address::v4(0x0a050000 + who);
        h.syn();
        return h;
    }
    // SYNs of one host from `count` ports; the queue has seen all of them.
    void flood(unsigned who, unsigned count, std::uint16_t from = 10'000) {
        const std::uint64_t seen = b.queue->counters().frames + count;
        for (unsigned i = 0; i < count; ++i) syn(who, static_cast<std::uint16_t>(from + i));
        b.go_until([&] { return b.queue->counters().frames == seen; });
        b.go_quiet();
    }
    // The destination of the next SYN answers.
    std::unique_ptr<program> open(unsigned who, std::uint16_t port, tun_host*& h) {
        const auto [far, dialled] = tcp_pair();
        b.exit->next_descriptor = dialled;
        h = &syn(who, port);
        b.go_until([&] { return h->answered; });
        h->acknowledge();
        b.go_quiet();
        return std::make_unique<program>(far, 1);
    }
    unsigned unanswered_far() const {
        unsigned count = 0;
        for (const ssh::flow_record& f : silent) count += f.closes == 0;
        return count;
    }
    // The far end answers all that it still may: with a connection's confirmation.
    void confirm_all() {
        for (ssh::flow_record& f : silent)
            if (f.at != nullptr && f.at->state == ssh::channel_state::asked)
                b.exit->layer->accept(*f.at, f);
    }
    const tun_queue_counters& counters() const { return b.queue->counters(); }

    std::deque<ssh::flow_record> silent;  // before the bench, which refers to them
    tun_bench b;
};

}  // namespace

TEST_CASE("a host that floods silent addresses is held to its share, and told nothing") {
    flood_bench f;
    f.flood(7, 20);
    CHECK(f.b.queue->flows() == 4);
    CHECK(f.b.queue->half_opens().size() == 4);
    CHECK(f.counters().too_many_half_open == 16);
    CHECK(f.b.crowds == 1);
    CHECK(f.silent.size() == 4);
    // What has not answered for long makes room for the next; the far end takes it back.
    f.b.pass(600 * ring::millisecond);
    f.flood(7, 3, 20'000);
    CHECK(f.counters().replaced == 3);
    CHECK(f.b.queue->half_opens().size() == 4);
    CHECK(f.silent.size() == 7);
    CHECK(f.unanswered_far() == 4);
    CHECK(f.b.entry->layer->unanswered() == 4);
    CHECK(f.b.entry->layer->open_channels() == 4);
    for (const auto& h : f.b.hosts) CHECK(h->frames.empty());
    CHECK(f.b.refused.empty());
    CHECK(f.b.crowds == 1);
    f.b.pass(10 * ring::second);
    f.flood(7, 5, 30'000);
    CHECK(f.b.crowds == 2);
    for (const auto& h : f.b.hosts) h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("beside a flood, flows go on and other hosts connect at once") {
    flood_bench f;
    tun_host* steady = nullptr;
    auto destination = f.open(2, 4000, steady);
    f.flood(7, 20);
    f.flood(8, 20);
    CHECK(f.b.queue->half_opens().size() == 8);
    // A third host: the two give way one by one, the open flow does not.
    for (std::uint16_t port = 5000; port < 5020; ++port) {
        tun_host* h = nullptr;
        auto far = f.open(3, port, h);
        CHECK(f.b.queue->half_opens().size() == 7);
        CHECK(f.b.opened.size() == static_cast<std::size_t>(port - 5000) + 2);
        h->rst();
        f.b.go_quiet();
        f.flood(port % 2 == 0 ? 7 : 8, 1, static_cast<std::uint16_t>(port + 20'000));
        CHECK(f.b.queue->half_opens().size() == 8);
    }
    CHECK(f.counters().crowded_out == 20);
    steady->data(ssh::pattern_bytes().at(0, 0, 10'000));
    f.b.go_until([&] {
        destination->read_from(0);
        return destination->received() == 10'000;
    });
    for (const auto& h : f.b.hosts) h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("a peer that takes no opens back has each of them answered, and none leaks") {
    flood_bench f(8, 1000, false);
    f.flood(7, 20);
    f.b.pass(600 * ring::millisecond);
    f.flood(7, 20, 20'000);
    // An abandoned open would only be one more that waits for its answer.
    CHECK(f.counters().replaced == 0);
    CHECK(f.counters().too_many_half_open == 36);
    // Other hosts take their share of the places all the same, as far as there may be unanswered.
    for (unsigned who = 8; who < 20; ++who) f.flood(who, 2, static_cast<std::uint16_t>(who * 100));
    CHECK(f.b.queue->half_opens().size() == 8);
    CHECK(f.b.entry->layer->unanswered() <= 16);
    CHECK(f.counters().crowded_out > 0);
    CHECK(f.b.entry->layer->unanswered() == 8 + f.counters().crowded_out);
    const bool accepts = GENERATE(true, false);
    if (accepts) {
        f.confirm_all();
    } else {
        for (ssh::flow_record& one : f.silent)
            f.b.exit->layer->refuse(*std::exchange(one.at, nullptr),
                                    ssh::open_failure_reason::connect_failed, "");
    }
    f.b.go_until([&] { return f.b.entry->layer->unanswered() == 0; });
    for (const auto& h : f.b.hosts) h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("opens that nobody answers are bounded, whoever gave them up") {
    flood_bench f(8, 1000, false);
    // Hosts that give up at once leave their opens behind.
    for (std::uint16_t i = 0; i < 30; ++i) {
        tun_host& h = f.syn(100 + i, 4000);
        f.b.go_quiet();
        h.rst();
        f.b.go_quiet();
    }
    CHECK(f.b.queue->flows() == 0);
    CHECK(f.b.entry->layer->unanswered() == 16);
    CHECK(f.counters().too_many_unanswered == 14);
    f.confirm_all();
    f.b.check_nothing_left();
    tun_host* h = nullptr;
    auto far = f.open(3, 5000, h);
    h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("a host that never completes its handshake gives way, and its destination is reset") {
    flood_bench f;
    std::vector<std::unique_ptr<program>> far;
    std::vector<tun_host*> all;
    for (std::uint16_t i = 0; i < 4; ++i) {
        const auto [socket, dialled] = tcp_pair();
        f.b.exit->next_descriptor = dialled;
        all.push_back(&f.syn(7, static_cast<std::uint16_t>(4000 + i)));
        f.b.go_until([&] { return all.back()->answered; });
        far.push_back(std::make_unique<program>(socket, 1));
    }
    CHECK(f.b.queue->half_opens().size() == 4);
    SECTION("for the next of its own") {
        f.b.pass(600 * ring::millisecond);
        f.flood(7, 1);
        f.b.go_until([&] {
            far[0]->read_from(0);
            return far[0]->error() != 0;
        });
        CHECK(f.counters().replaced == 1);
        CHECK_FALSE(all[0]->reset);
        // Should it be there after all, it learns the truth.
        all[0]->acknowledge();
        f.b.go_until([&] { return all[0]->reset; });
    }
    SECTION("when it does not answer") {
        for (int i = 0; i < 200; ++i) f.b.pass(ring::second);
        CHECK(f.b.queue->flows() == 0);
    }
    for (const auto& h : f.b.hosts) h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("an open that is never answered is forgotten when no host waits any more") {
    const bool takes_back = GENERATE(true, false);
    flood_bench f(8, 1000, takes_back);
    f.flood(7, 3);
    f.b.pass(129 * ring::second);
    CHECK(f.b.queue->flows() == 3);
    f.b.pass(2 * ring::second);
    CHECK(f.b.queue->flows() == 0);
    CHECK(f.counters().never_answered == 3);
    f.b.go_quiet();
    CHECK(f.b.entry->layer->unanswered() == (takes_back ? 0u : 3u));
    f.confirm_all();
    f.b.check_nothing_left();
    for (const auto& h : f.b.hosts) CHECK(h->frames.empty());
}

TEST_CASE("SYNs that wait for a session are held to the same shares") {
    flood_bench f;
    f.b.live = false;
    f.flood(7, 20);
    f.flood(8, 20);
    CHECK(f.b.queue->flows() == 8);
    f.flood(9, 1);
    CHECK(f.counters().crowded_out == 1);
    CHECK(f.silent.empty());
    f.b.live = true;
    f.b.queue->session_ready();
    f.b.go_until([&] { return f.silent.size() == 8; });
    for (const auto& h : f.b.hosts) h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("TIME_WAIT holds nothing of the budget, and makes room when the table is full") {
    flood_bench f(8, 3);
    std::vector<tun_host*> all;
    for (std::uint16_t i = 0; i < 3; ++i) {
        tun_host* h = nullptr;
        auto far = f.open(2, static_cast<std::uint16_t>(4000 + i), h);
        all.push_back(h);
        h->data(ssh::pattern_bytes().at(0, 0, 10'000));
        // The far end closes first: this side is the one that waits.
        far->shut_down();
        f.b.go_until([&] { return h->fin_heard; });
        h->acknowledge();
        h->fin();
        f.b.go_until([&] {
            far->read_from(0);
            return far->eof() && f.b.entry->layer->open_channels() == 0;
        });
    }
    CHECK(f.b.queue->flows() == 3);
    CHECK(f.b.entry->budget.growth_left() == f.b.entry->growth_at_start);
    CHECK(f.b.sessions.held() == 0);
    // The first of them gives its place to a new flow.
    tun_host* h = nullptr;
    auto far = f.open(2, 5000, h);
    CHECK(f.counters().time_waits_cut == 1);
    CHECK(f.b.queue->flows() == 3);
    for (tun_host* old : all) CHECK_FALSE(old->reset);
    f.b.pass(6 * ring::second);
    CHECK(f.b.queue->flows() == 1);
    h->rst();
    f.b.check_nothing_left();
}

TEST_CASE("hosts that have vanished are forgotten, whatever they left") {
    flood_bench f;
    tun_host* idle = nullptr;
    tun_host* half = nullptr;
    tun_host* full = nullptr;
    auto idle_far = f.open(2, 4000, idle);
    auto half_far = f.open(2, 4001, half);
    auto full_far = f.open(2, 4002, full);
    const std::uint64_t before = f.b.entry->budget.growth_left();
    // One whose destination has ended its half, one to which bytes are under way.
    half_far->shut_down();
    f.b.go_until([&] { return half->fin_heard; });
    half->acknowledge();
    full_far->write_to(5000);
    f.b.go_quiet();
    CHECK(f.b.queue->flows() == 3);
    for (int i = 0; i < 400 && f.b.queue->flows() > 0; ++i) f.b.pass(5 * ring::second);
    CHECK(f.b.queue->flows() == 0);
    CHECK(f.b.entry->budget.growth_left() > before);
    for (program* p : {idle_far.get(), half_far.get(), full_far.get()})
        f.b.go_until([&] {
            p->read_from(0);
            return p->error() != 0;
        });
    f.b.check_nothing_left();
}

TEST_CASE("a host that keeps open what the far end has closed is given up") {
    flood_bench f;
    tun_host* h = nullptr;
    auto far = f.open(2, 4000, h);
    far->leave();
    f.b.go_until([&] { return h->fin_heard; });
    h->acknowledge();
    f.b.go_quiet();
    CHECK(f.b.queue->flows() == 1);
    // The host is there and answers; it only never closes.
    for (int i = 0; i < 400 && f.b.queue->flows() > 0; ++i) {
        f.b.pass(5 * ring::second);
        h->acknowledge();
    }
    CHECK(f.b.queue->flows() == 0);
    f.b.check_nothing_left();
}

TEST_CASE("a far end without room is no refusal: the host is left to try again") {
    flood_bench f;
    f.flood(7, 2);
    f.b.exit->layer->refuse(*std::exchange(f.silent[0].at, nullptr),
                            ssh::open_failure_reason::shortage, "too many");
    f.b.exit->layer->refuse(*std::exchange(f.silent[1].at, nullptr),
                            ssh::open_failure_reason::connect_failed, "refused");
    f.b.go_until([&] { return f.b.queue->flows() == 0; });
    f.b.go_quiet();
    CHECK(f.b.refused.size() == 2);
    CHECK(f.b.hosts[0]->frames.empty());
    CHECK(f.b.hosts[1]->reset);
    f.b.check_nothing_left();
}

TEST_CASE("what a closed channel leaves for a host stays in the budget, and not for ever") {
    flood_bench f;
    tun_host& h = f.syn(2, 4000);
    f.b.go_until([&] { return f.silent.size() == 1; });
    f.confirm_all();
    f.b.go_until([&] { return h.answered; });
    h.acknowledge();
    f.b.go_quiet();
    const std::uint64_t before = f.b.entry->budget.growth_left();
    const std::uint32_t window = f.b.entry->layer->channels()[0]->window;
    ssh::channel& c = *std::exchange(f.silent[0].at, nullptr);
    f.b.exit->layer->send(c, {}, ssh::pattern_bytes().at(1, 0, 10'000));
    f.b.exit->layer->send_eof(c);
    f.b.exit->layer->close(c);
    f.b.go_until([&] { return f.b.entry->layer->open_channels() == 0 && h.fin_heard; });
    CHECK(h.received.size() == 10'000);
    const std::uint64_t of_window = window - ring::budget::base_bytes;
    CHECK(f.b.entry->budget.growth_left() == before + of_window - 10'000);
    SECTION("the host takes it") {
        h.acknowledge();
        h.fin();
        f.b.go_until([&] { return f.b.entry->budget.growth_left() == f.b.entry->growth_at_start; });
        CHECK_FALSE(h.reset);
        f.b.pass(6 * ring::second);
    }
    SECTION("the host is gone") {
        f.b.pass(59 * ring::second);
        CHECK_FALSE(h.reset);
        f.b.pass(2 * ring::second);
        CHECK(h.reset);
    }
    f.b.check_nothing_left();
}
