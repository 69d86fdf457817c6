// Flows whose frames come in on other workers' queues, with steering: several workers' queues on
// one thread, each with a session of its own, the mail between them carried in the order it was
// sent. A flow's home is its source port modulo the number of workers.
#include "core/relay/tun_homes.hh"

#include <functional>

#include "tests/catch.hh"
#include "tests/unit/relay/tun_bench.hh"

namespace burin::relay {
namespace {

struct office;

struct steered_bench : tun_bench {
    steered_bench(office& o, unsigned which) : all(o), index(which) {}
    unsigned number() const noexcept override { return index; }
    unsigned home(const tun::flow_key&) const noexcept override;
    bool comes_in_here(const tun::flow_key&) const noexcept override;
    bool has_session(unsigned worker) const noexcept override;
    unsigned hand_over(bytes_view frame, unsigned to) noexcept override;
    void on_adopted(const tun::flow_key&, unsigned home) noexcept override;
    void on_adopted_closed(const tun::flow_key&, unsigned home) noexcept override;

    office& all;
    unsigned index;
};

struct office {
    explicit office(unsigned count) : moved(count) {
        for (unsigned i = 0; i < count; ++i) {
            workers.push_back(std::make_unique<steered_bench>(*this, i));
            moved[i] = i;
        }
    }
    steered_bench& operator[](unsigned worker) { return *workers[worker]; }
    unsigned home(const tun::flow_key& key) const {
        return key.source_port % static_cast<unsigned>(workers.size());
    }
    // The worker's session is lost, and `other` takes its flows in; or is back.
    void lose(unsigned worker, unsigned other) {
        workers[worker]->live = false;
        moved[worker] = other;
    }
    void gain(unsigned worker) {
        workers[worker]->live = true;
        moved[worker] = worker;
    }
    // A turn of each worker, its mail first.
    void go() {
        for (auto& letter : std::exchange(mail, {})) letter();
        for (auto& w : workers) w->go();
    }
    template <class Condition>
    void until(Condition&& met, int line = __builtin_LINE()) {
        const auto limit = ring::monotonic_now() + 20 * ring::second;
        while (!met()) {
            if (ring::monotonic_now() > limit) FAIL("what line " << line << " waits for");
            go();
        }
    }
    void go_quiet() {
        for (int i = 0; i < 20; ++i) go();
    }
    std::uint32_t flows() const {
        std::uint32_t sum = 0;
        for (auto& w : workers) sum += w->queue->flows();
        return sum;
    }
    std::uint64_t handed_over() const {
        std::uint64_t sum = 0;
        for (auto& w : workers) sum += w->queue->homes().handed_over();
        return sum;
    }
    std::uint64_t unknown() const {
        std::uint64_t sum = 0;
        for (auto& w : workers) sum += w->queue->counters().unknown_flow;
        return sum;
    }
    // A host that hears `worker` and speaks to `queue`.
    tun_host& host(unsigned worker, unsigned queue, std::uint16_t port) {
        auto& hosts = workers[worker]->hosts;
        hosts.push_back(std::make_unique<tun_host>(workers[queue]->device(), port));
        return *hosts.back();
    }
    // Opened through `queue`, carried by `worker`.
    std::pair<tun_host*, std::unique_ptr<program>> open(unsigned worker, unsigned queue,
                                                        std::uint16_t port) {
        const auto [far, dialled] = tcp_pair();
        workers[worker]->exit->next_descriptor = dialled;
        tun_host& h = host(worker, queue, port);
        h.syn();
        until([&] { return h.answered; });
        h.acknowledge();
        return {&h, std::make_unique<program>(far, 0)};
    }

    std::vector<std::function<void()>> mail;
    std::vector<unsigned> moved;  // by home: whose queue its flows come in on
    std::vector<std::unique_ptr<steered_bench>> workers;
};

unsigned steered_bench::home(const tun::flow_key& key) const noexcept {
    return all.home(key);
}
bool steered_bench::comes_in_here(const tun::flow_key& key) const noexcept {
    return all.moved[all.home(key)] == index;
}
bool steered_bench::has_session(unsigned worker) const noexcept {
    return all.workers[worker]->live;
}
unsigned steered_bench::hand_over(bytes_view frame, unsigned to) noexcept {
    if (to == tun_strays::anybody) {
        to = tun_strays::nobody;
        for (auto& w : all.workers)
            if (w->live) to = w->index;
    }
    if (to == tun_strays::nobody || to == index) return tun_strays::nobody;
    all.mail.emplace_back([this, to, copy = byte_vector(frame.begin(), frame.end())] {
        all[to].queue->adopt(copy, index);
    });
    return to;
}
void steered_bench::on_adopted(const tun::flow_key& key, unsigned home) noexcept {
    all.mail.emplace_back([this, key, home] { all[home].queue->carried(key, index); });
}
void steered_bench::on_adopted_closed(const tun::flow_key& key, unsigned home) noexcept {
    all.mail.emplace_back([this, key, home] { all[home].queue->forget_carried(key, index); });
}

bytes_view text(std::size_t from, std::size_t size) {
    return ssh::pattern_bytes().at(0, from, size);
}

// Says bytes and sees them at the destination; `at` bytes came before.
void carry(office& all, tun_host& h, program& destination, std::size_t at) {
    h.data(text(at, 3000));
    all.until([&] {
        destination.read_from(0);
        return destination.received() == at + 3000;
    });
}

void close(office& all, tun_host& h, program& destination) {
    const std::uint32_t others = all.flows() - 1;
    h.fin();
    all.until([&] {
        destination.read_from(0);
        return destination.eof();
    });
    destination.leave();
    all.until([&] { return h.fin_heard; });
    h.acknowledge();
    all.until([&] { return all.flows() == others && all.mail.empty(); });
}

TEST_CASE("at home nothing is passed on", "[tun_homes]") {
    office all(2);
    for (unsigned i : {0u, 1u}) {
        auto [h, destination] = all.open(i, i, static_cast<std::uint16_t>(4000 + i));
        carry(all, *h, *destination, 0);
        close(all, *h, *destination);
    }
    CHECK(all.handed_over() == 0);
    CHECK(all.unknown() == 0);
}

TEST_CASE("a flow that another worker took in stays there when its home is back", "[tun_homes]") {
    office all(2);
    all.lose(1, 0);
    auto [h, destination] = all.open(0, 0, 4001);
    carry(all, *h, *destination, 0);
    CHECK(all.handed_over() == 0);
    CHECK(all[1].queue->homes().strays().passed() == 1);
    // From now on its frames come in at home.
    all.gain(1);
    h->move(all[1].device());
    carry(all, *h, *destination, 3000);
    CHECK(all.handed_over() >= 1);
    // A new one begins at home.
    auto [fresh, other] = all.open(1, 1, 4003);
    carry(all, *fresh, *other, 0);
    CHECK(all[1].queue->flows() == 1);
    close(all, *fresh, *other);
    // As it ends, its home forgets it.
    close(all, *h, *destination);
    CHECK(all[1].queue->homes().strays().passed() == 0);
    CHECK(all.unknown() == 0);
    h->acknowledge();
    all.until([&] { return all[1].queue->counters().unknown_flow == 1; });
    CHECK(all[0].queue->counters().unknown_flow == 0);
}

TEST_CASE("what comes in elsewhere finds its flow at home", "[tun_homes]") {
    office all(2);
    auto [h, destination] = all.open(1, 1, 4001);
    carry(all, *h, *destination, 0);
    h->move(all[0].device());
    carry(all, *h, *destination, 3000);
    CHECK(all[0].queue->flows() == 0);
    CHECK(all[0].queue->homes().handed_over() >= 1);
    // A SYN as well: the home of a flow decides, while it has a session.
    auto [other, its] = all.open(1, 0, 4003);
    carry(all, *other, *its, 0);
    CHECK(all[0].queue->flows() == 0);
    CHECK(all[1].queue->flows() == 2);
    close(all, *other, *its);
}

TEST_CASE("what nobody has is refused by its home, after one step", "[tun_homes]") {
    office all(2);
    tun_host& h = all.host(1, 0, 4001);
    h.acknowledge();
    all.until([&] { return h.reset; });
    CHECK(all[0].queue->counters().unknown_flow == 0);
    CHECK(all[1].queue->counters().unknown_flow == 1);
    CHECK(all.handed_over() == 1);
    // What its home takes for carried elsewhere, and is not, goes there and no further.
    all[1].queue->carried(h.key, 0);
    tun_host& at_home = all.host(0, 1, 4001);
    at_home.acknowledge();
    all.until([&] { return at_home.reset; });
    CHECK(all.handed_over() == 2);
    // From there it would only come back: its home forgets.
    h.acknowledge();
    all.until([&] { return all[1].queue->homes().strays().passed() == 0; });
    all.go_quiet();
    CHECK(all.handed_over() == 3);
    CHECK(all.mail.empty());
}

TEST_CASE("from any queue to the home, and on to who carries it", "[tun_homes]") {
    office all(3);
    all.lose(2, 0);
    auto [h, destination] = all.open(0, 0, 4001);  // 4001 % 3 == 2
    REQUIRE(all.home(h->key) == 2);
    carry(all, *h, *destination, 0);
    h->move(all[1].device());
    const std::uint64_t before = all.handed_over();
    carry(all, *h, *destination, 3000);
    CHECK(all[1].queue->homes().handed_over() >= 1);
    CHECK(all[2].queue->homes().handed_over() == all[1].queue->homes().handed_over());
    CHECK(all.handed_over() > before);
    h->move(all[0].device());
    close(all, *h, *destination);
    CHECK(all.unknown() == 0);
}

TEST_CASE("a flow waits at home, and yields to a worker that has a session first", "[tun_homes]") {
    office all(2);
    all[0].live = false;
    all[1].live = false;
    // Wherever it comes in.
    tun_host& waits = all.host(1, 0, 4001);
    waits.syn();
    all.until([&] { return all[1].queue->counters().held == 1; });
    CHECK(all[0].queue->flows() == 0);
    // Its host asks again, and the other worker has a session by now.
    all[0].live = true;
    all.moved[1] = 0;
    const auto [far, dialled] = tcp_pair();
    all[0].exit->next_descriptor = dialled;
    program destination(far, 0);
    tun_host& h = all.host(0, 0, 4001);
    h.syn();
    all.until([&] { return h.answered; });
    all.until([&] { return all[1].queue->flows() == 0; });
    CHECK(waits.frames.empty());
    CHECK(all[1].refused.empty());
    // Nothing of it is left for the home's session.
    all.gain(1);
    all[1].queue->session_ready();
    all.go_quiet();
    CHECK(all[1].opened.empty());
    CHECK(all[1].queue->flows() == 0);
    h.move(all[1].device());
    h.acknowledge();
    carry(all, h, destination, 0);
    close(all, h, destination);
}

TEST_CASE("a home that carries the flow itself believes no other", "[tun_homes]") {
    office all(2);
    auto [h, destination] = all.open(1, 1, 4001);
    all[1].queue->carried(h->key, 0);
    CHECK(all[1].queue->homes().strays().passed() == 0);
    carry(all, *h, *destination, 0);
    CHECK_FALSE(h->reset);
    CHECK(all.handed_over() == 0);
    close(all, *h, *destination);
}

TEST_CASE("a flow that ends is told to its home whichever way it ends", "[tun_homes]") {
    office all(2);
    all.lose(1, 0);
    auto [h, destination] = all.open(0, 0, 4001);
    all.until([&] { return all[1].queue->homes().strays().passed() == 1; });
    SECTION("by the host") {
        h->rst();
    }
    SECTION("by the loss of its session") {
        all[0].live = false;
        all[0].entry->layer->lose();
    }
    all.until([&] { return all[1].queue->homes().strays().passed() == 0; });
    CHECK(all[0].queue->homes().strays().adopted() == 0);
}

}  // namespace
}  // namespace burin::relay
