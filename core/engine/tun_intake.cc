#include "core/engine/tun_intake.hh"

#include <fmt/format.h>

#include "core/engine/byte_count.hh"
#include "core/engine/client_worker.hh"

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
    auto routes = tun::routes::open(_device->index(), _device->name());
    if (!routes) return routes.error().what;
    _routes = std::move(routes).value();
    if (tun::failure bad = _routes->apply(_network)) return bad.what;
    auto monitor = tun::route_monitor::open();
    if (!monitor) return monitor.error().what;
    _monitor = std::move(monitor).value();
    return {};
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

tun_intake::tun_intake(worker& w, client_worker& client, client_shared& shared,
                       tun::descriptor queue)
    : _worker(w),
      _client(client),
      _shared(shared),
      _queue(
          w.relays(), w.budget(), *this, std::move(queue),
          {.most_flows = shared.settings->max_channels,
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
    _queue.report(into, fmt::format("worker {}: tun", _worker.index()));
}

ssh::connection* tun_intake::session() noexcept {
    client_session* s = _client.session();
    return s == nullptr ? nullptr : &s->channels();
}

bool tun_intake::close_means_eof() const noexcept {
    client_session* s = _client.session();
    return s != nullptr && s->close_means_eof();
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

unsigned tun_intake::hand_over(bytes_view frame, unsigned to) noexcept {
    return _client.hand_over(frame, to);
}

void tun_intake::on_adopted_closed(const tun::flow_key& key, unsigned from) noexcept {
    _client.tell_flow_closed(key, from);
}

void tun_intake::on_stopped() noexcept {
    _worker.remove(*this);
}

}  // namespace burin::engine
