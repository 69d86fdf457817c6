#include "core/engine/tun_intake.hh"

#include <fmt/format.h>

#include <algorithm>

#include "core/engine/byte_count.hh"
#include "core/engine/client_worker.hh"
#include "crypto/random.hh"

namespace burin::engine {

// ---- the device ----

std::string tun_device::open(const client_settings& s) {
    for (const std::string& text : s.tun_addresses) {
        auto address = tun::parse_interface(text);
        if (!address) return address.error().what;
        _network.addresses.push_back(address.value());
    }
    for (const std::string& text : s.routes) {
        auto route = tun::parse_network(text);
        if (!route) return route.error().what;
        _network.routes.push_back(route.value());
    }
    for (const std::string& text : s.excludes) {
        auto outside = tun::parse_network(text);
        if (!outside) return outside.error().what;
        _network.excluded.push_back(outside.value());
    }
    auto device = tun::device::open(
        {.name = s.tun,
         .queues = s.workers,
         .udp = s.old_kernel ? tun::udp_segmentation::off : tun::udp_segmentation::wanted});
    if (!device) return device.error().what;
    _device = std::move(device).value();
    steer(s);
    auto routes = tun::routes::open(_device->index(), _device->name());
    if (!routes) return routes.error().what;
    _routes = std::move(routes).value();
    if (tun::failure bad = _routes->apply(_network)) return bad.what;
    auto monitor = tun::route_monitor::open();
    if (!monitor) return monitor.error().what;
    _monitor = std::move(monitor).value();
    return {};
}

// Before the device is up, so that no flow ever comes in elsewhere.
void tun_device::steer(const client_settings& s) {
    if (_device->queues() == 1) return;
    if (!s.steering) {
        _unsteered = "turned off";
        return;
    }
    tun::steering_key key;
    crypto::fill_random(std::as_writable_bytes(std::span(&key, 1)));
    auto steering = tun::steering::load(key, s.workers);
    tun::failure bad = steering ? steering.value()->attach(_device->queue(0)) : steering.error();
    if (bad)
        _unsteered = bad.what;
    else
        _steering = std::move(steering).value();
}

std::string tun_device::describe() const {
    std::string text = fmt::format("tun: Device {}", _device->name());
    for (const tun::cidr& address : _network.addresses) text += " " + address.text();
    for (const tun::cidr& route : _network.routes) text += ", route " + route.text();
    for (const tun::cidr& outside : _network.excluded) text += ", without " + outside.text();
    return text;
}

relay::socket_hook tun_device::keep_outside() {
    return [this](int descriptor, const relay::endpoint& to) {
        return _routes->keep_outside(descriptor, *to.address());
    };
}

// ---- a worker's part ----

namespace {
// A quarter of the channels: hosts that connect to a dead network leave the others their place.
// More than the default of 10 000 channels allows would be more than a session's queue takes at
// once.
std::uint32_t most_half_open(std::uint32_t channels) noexcept {
    return std::clamp(channels / 4, 4u, relay::half_open_settings().most);
}
}  // namespace

tun_intake::tun_intake(worker& w, client_worker& client, client_shared& shared,
                       tun::descriptor queue)
    : _worker(w),
      _client(client),
      _shared(shared),
      _queue(
          w.relays(), w.budget(), *this, std::move(queue),
          {.most_flows = shared.settings->max_channels,
           .half_open = {.most = most_half_open(w.budget().channel_limit())},
           .hold_time = shared.settings->session_wait,
           .udp_superframes = shared.udp_superframes,
           .congestion = shared.settings->tun_congestion,
           .dns =
               relay::dns_steering::parse(shared.settings->dns).value_or(relay::dns_steering())}) {
    _worker.add(*this);
    _worker.attach(&_queue);
}

tun_intake::~tun_intake() {
    _worker.attach(nullptr);
    _worker.remove(*this);
}

void tun_intake::report(std::string& into) const {
    const std::string name = fmt::format("worker {}: tun", _worker.index());
    if (const tun::steering* s = _shared.tunnel->steering())
        into += fmt::format("{}: steering: on buckets={}/{}\n", name,
                            s->buckets_of(_worker.index()), tun::steering_buckets);
    else if (!_shared.tunnel->unsteered().empty())
        into += fmt::format("{}: steering: off ({})\n", name, _shared.tunnel->unsteered());
    _queue.report(into, name);
}

ssh::connection* tun_intake::session() noexcept {
    client_session* s = _client.session();
    return s == nullptr ? nullptr : &s->channels();
}

bool tun_intake::close_means_eof() const noexcept {
    client_session* s = _client.session();
    return s != nullptr && s->close_means_eof();
}

bool tun_intake::carries_echo() const noexcept {
    client_session* s = _client.session();
    return s != nullptr && s->carries_echo();
}

std::uint32_t tun_intake::next_number() noexcept {
    return ++_shared.flow_numbers;
}

void tun_intake::on_flow_open(const relay::tun_flow& f) noexcept {
    if (!_shared.settings->verbose) return;
    _client.log(true, fmt::format("tun: conn#{}: Open {}", f.number(), f.target()));
}

void tun_intake::on_flow_closed(const relay::tun_flow& f) noexcept {
    if (!_shared.settings->verbose) return;
    _client.log(true, fmt::format("tun: conn#{}: Close (sent {} received {})", f.number(),
                                  byte_count(f.bytes_sent()), byte_count(f.bytes_received())));
}

void tun_intake::on_flow_refused(const relay::tun_flow& f, std::string_view why) noexcept {
    _client.log(false, fmt::format("tun: conn#{}: {}: Stream error: {}", f.number(), f.target(),
                                   escape(why)));
}

void tun_intake::on_crowd() noexcept {
    _client.log(false,
                "tun: More connections are being opened than may be: the oldest give way, or new "
                "ones have to wait (SIGUSR2 tells how many)");
}

void tun_intake::on_datagrams_refused(std::string_view target, std::string_view why) noexcept {
    if (!_shared.settings->verbose) return;
    _client.log(true, fmt::format("tun: {}/udp: Stream error: {}", target, escape(why)));
}

void tun_intake::on_stray_error(const tun::icmp_report& report) noexcept {
    for (auto& other : *_shared.clients)
        if (other.get() != &_client) other->pass_on(report);
}

void tun_intake::on_device_lost(int error) noexcept {
    _client.log(false, fmt::format("tun: the device is gone: {}", relay::errno_words(error)));
    _shared.finish(1);
}

unsigned tun_intake::home(const tun::flow_key& key) const noexcept {
    const tun::steering* s = _shared.tunnel->steering();
    return s == nullptr ? relay::tun_strays::nobody : s->home(key);
}

bool tun_intake::comes_in_here(const tun::flow_key& key) const noexcept {
    const tun::steering* s = _shared.tunnel->steering();
    return s == nullptr || s->queue(key) == _worker.index();
}

bool tun_intake::has_session(unsigned worker) const noexcept {
    return worker < _shared.clients->size() && (*_shared.clients)[worker]->live();
}

unsigned tun_intake::hand_over(bytes_view frame, unsigned to) noexcept {
    return _client.hand_over(frame, to);
}

void tun_intake::on_adopted(const tun::flow_key& key, unsigned home) noexcept {
    if (tun::steering* s = _shared.tunnel->steering()) s->pin(key);
    _client.tell_flow_carried(key, home);
}

void tun_intake::on_adopted_closed(const tun::flow_key& key, unsigned home) noexcept {
    if (tun::steering* s = _shared.tunnel->steering()) s->unpin(key);
    _client.tell_flow_closed(key, home);
}

void tun_intake::on_stopped() noexcept {
    _worker.remove(*this);
}

}  // namespace burin::engine
