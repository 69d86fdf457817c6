// Random lives of many channels between two connection layers over streams that are cut and late:
// what was delivered and how it ended is compared with what the other side did.
#include <map>

#include "tests/catch.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {
namespace {

// One side of one channel, and what it did.
struct life {
    flow_record* flow = nullptr;
    std::uint32_t stream = 0;
    std::uint64_t sent = 0;     // given to the layer
    std::uint64_t checked = 0;  // of the other's stream, found right
    bool eof = false, closed = false, aborted = false;
    bool eof_gone = false;  // EOF had left when it aborted
    bool greedy = true;     // takes what it gets at once
    bool quiet() const { return flow == nullptr || flow->at == nullptr || closed || aborted; }
};

struct pairing {
    life opener, acceptor;
    bool refuses = false;
};

class world {
  public:
    explicit world(unsigned seed) : _random(seed) {
        const std::uint32_t window = 16384u << pick(6);
        // Some lives see keys change all the time, some by limits, most now and then.
        _rekeys_one_in = pick(3) == 0 ? 15 : 500;
        if (pick(3) == 0) _pair.client_settings.rekey_packets = 20 + pick(300);
        if (pick(3) == 0) _pair.server_settings.rekey_bytes = 20'000 + pick(1'000'000);
        _pair.begin({.max_channels = 60, .window_max = window}, 16u << 20, 60);
        for (station* s : {&_pair.entry, &_pair.exit}) {
            s->keeps = false;
            s->takes = false;
            s->when_open = [this, s](channel& c, const channel_open& open) { answer(*s, c, open); };
        }
    }

    void run(unsigned steps) {
        for (unsigned step = 0; step < steps; ++step) {
            act(pick(2) == 0 ? _pair.entry : _pair.exit);
            if (pick(4) == 0) _pair.entry.flush(64 + pick(3) * 60'000);
            if (pick(4) == 0) _pair.exit.flush(64 + pick(3) * 60'000);
            if (pick(3) == 0) carry_some(_pair.client, _pair.server);
            if (pick(3) == 0) carry_some(_pair.server, _pair.client);
            if (pick(_rekeys_one_in) == 0)
                (pick(2) ? _pair.client : _pair.server).end->start_rekey();
        }
    }

    // Lets everything arrive and be taken, and compares.
    void check() {
        rest();
        _pair.check_peace();
        for (auto& [number, p] : _pairings) {
            CAPTURE(number);
            compare(p.opener, p.acceptor);
            compare(p.acceptor, p.opener);
        }
        CHECK(_pair.entry.layer->open_channels() == _pair.exit.layer->open_channels());
        for (station* s : {&_pair.entry, &_pair.exit}) {
            CHECK(s->pieces.in_use() == 0);
            std::uint64_t granted = 0;
            for (const channel* c : s->layer->channels()) {
                if (c == nullptr) continue;
                granted += c->window;
                CHECK(c->receive_left + c->consumed == c->window);  // all was taken
            }
            CHECK(granted + s->budget->growth_left() +
                      (s->budget->channel_limit() - s->layer->open_channels()) *
                          ring::budget::base_bytes ==
                  s->budget->total());
        }
    }

    void close_all() {
        for (auto& [number, p] : _pairings)
            for (life* l : {&p.opener, &p.acceptor})
                if (!l->quiet() && pick(2)) end(*l);
        rest();
        for (auto& [number, p] : _pairings)
            for (life* l : {&p.opener, &p.acceptor})
                if (!l->quiet()) end(*l);
        rest();
        _pair.check_peace();
        _pair.entry.check_empty();
        _pair.exit.check_empty();
    }

    void lose_all() {
        for (station* s : {&_pair.entry, &_pair.exit}) {
            s->layer->lose();
            s->check_empty();
        }
        for (auto& [number, p] : _pairings)
            for (life* l : {&p.opener, &p.acceptor}) {
                if (l->flow == nullptr || l->closed || l->aborted) continue;
                CHECK(l->flow->closes + l->flow->refused.has_value() == 1);
            }
    }

    unsigned opened() const { return static_cast<unsigned>(_pairings.size()); }

  private:
    unsigned pick(unsigned count) { return static_cast<unsigned>(_random() % count); }

    void answer(station& s, channel& c, const channel_open& open) {
        const std::uint32_t number = load_u32(open.rest.data());
        pairing& p = _pairings.at(number);
        if (p.refuses) return s.layer->refuse(c, open_failure_reason::connect_failed, "no");
        watch(p.acceptor, p.opener, s.accept(c), 2 * number + 1);
    }

    void watch(life& l, life& other, flow_record& flow, std::uint32_t stream) {
        l.flow = &flow;
        l.stream = stream;
        l.greedy = pick(4) != 0;
        flow.keep = true;
        flow.when_data = [this, &l, &other] {
            REQUIRE(std::equal(
                l.flow->data.begin(), l.flow->data.end(),
                pattern_bytes().at(other_stream(l), l.checked, l.flow->data.size()).begin()));
            l.checked += l.flow->data.size();
            l.flow->data.clear();
            REQUIRE(l.checked <= other.sent);
            if (l.greedy) l.flow->take_held();
        };
    }
    static std::uint32_t other_stream(const life& l) { return l.stream ^ 1; }

    void act(station& s) {
        if (_pairings.empty() || pick(12) == 0) {
            const std::uint32_t number = _next++;
            pairing& p = _pairings[number];
            p.refuses = pick(8) == 0;
            byte_vector extra(4);
            store_u32(extra.data(), number);
            flow_record& flow = s.open(as_text(extra));
            if (flow.at == nullptr) {  // the limit
                _pairings.erase(number);
                return;
            }
            watch(p.opener, p.acceptor, flow, 2 * number);
            return;
        }
        life* l = any();
        if (l == nullptr) return;
        connection& layer = *l->flow->layer;
        switch (pick(16)) {
            case 0:
                if (!l->eof) layer.send_eof(*l->flow->at);
                l->eof = true;
                break;
            case 1:
                if (pick(3) == 0) end(*l);
                break;
            case 2:
            case 3: {
                const std::uint32_t part = pick(l->flow->held + 1);
                l->flow->held -= part;
                layer.consumed(*l->flow->at, part);
                break;
            }
            default: {
                const std::uint32_t room = layer.sendable(*l->flow->at);
                if (room == 0) break;
                const std::uint32_t size = 1 + pick(std::min(room, pick(3) == 0 ? 70'000u : 500u));
                layer.send(*l->flow->at, {}, pattern_bytes().at(l->stream, l->sent, size));
                l->sent += size;
            }
        }
    }

    life* any() {
        for (int tries = 0; tries < 8; ++tries) {
            auto at = _pairings.lower_bound(pick(_next));
            if (at == _pairings.end()) continue;
            life& l = pick(2) ? at->second.opener : at->second.acceptor;
            if (!l.quiet()) return &l;
        }
        return nullptr;
    }

    void end(life& l) {
        connection& layer = *l.flow->layer;
        const bool orderly = pick(3) != 0 && l.flow->at->state == channel_state::open;
        channel& c = *std::exchange(l.flow->at, nullptr);
        if (orderly) {
            if (!l.eof && pick(2)) {
                layer.send_eof(c);
                l.eof = true;
            }
            layer.close(c);
            l.closed = true;
        } else {
            l.eof_gone = c.eof_sent;
            pick(2) && c.state != channel_state::open ? layer.close(c) : layer.abort(c);
            l.aborted = true;
        }
    }

    // The other side's end of the story must follow from what this side did.
    void compare(const life& l, const life& other) {
        if (l.flow == nullptr || l.closed || l.aborted) return;  // it did not stay to see
        const flow_record& f = *l.flow;
        CHECK(f.after_end == 0);
        CHECK(f.closes <= 1);
        if (f.refused) return;
        CHECK(f.eofs <= 1);
        if (other.aborted) {
            if (f.confirmed == 0 && other.flow == nullptr) return;
            CHECK(l.checked <= other.sent);
            CHECK(f.cause == (other.eof_gone ? close_cause::finished : close_cause::cut_off));
            return;
        }
        CHECK(l.checked == other.sent);
        CHECK(f.eofs == (other.eof ? 1u : 0u));
        CHECK(f.cause.has_value() == other.closed);
        if (other.closed)
            CHECK(*f.cause == (other.eof ? close_cause::finished : close_cause::cut_off));
    }

    void carry_some(link_end& from, link_end& to) {
        const std::size_t size =
            std::min<std::size_t>(from.said.size(), pick(3) == 0 ? pick(50) : pick(200'000));
        for (std::size_t at = 0; at < size;) {
            const std::size_t part = std::min<std::size_t>(size - at, 1 + pick(20'000));
            feed(*to.end, to.run, bytes_view(from.said).subspan(at, part));
            at += part;
        }
        from.said.erase(from.said.begin(), from.said.begin() + static_cast<std::ptrdiff_t>(size));
    }

    void rest() {
        for (auto& [number, p] : _pairings)
            for (life* l : {&p.opener, &p.acceptor}) l->greedy = true;
        for (;;) {
            for (station* s : {&_pair.entry, &_pair.exit})
                for (flow_record& flow : s->flows) flow.take_held();
            _pair.settle();
            bool held = false;
            for (station* s : {&_pair.entry, &_pair.exit})
                for (flow_record& flow : s->flows) held = held || flow.held > 0;
            if (!held) break;
        }
    }

    std::mt19937 _random;
    std::map<std::uint32_t, pairing> _pairings;  // by number; before the pair, which refers to them
    station_pair _pair;
    std::uint32_t _next = 1;
    unsigned _rekeys_one_in = 0;
};

TEST_CASE("random lives of channels end as they were led", "[connection][fuzz]") {
    const unsigned first = std::random_device{}();
    unsigned opened = 0;
    for (unsigned round = 0; round < 18; ++round) {
        const unsigned seed = first + round;
        CAPTURE(seed);
        world w(seed);
        w.run(3000);
        if (round % 3 == 2) {
            w.lose_all();
        } else {
            w.check();
            w.run(500);
            w.check();
            w.close_all();
        }
        opened += w.opened();
    }
    CHECK(opened > 600);
}

}  // namespace
}  // namespace burin::ssh
