// The TUN of `burin client --tun`: the device with its addresses and routes, for all workers, and
// one intake a worker, which joins a queue of the device to the worker's session.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/engine/metrics_sources.hh"
#include "core/engine/settings.hh"
#include "core/engine/worker.hh"
#include "core/relay/tun_queue.hh"
#include "tun/device.hh"
#include "tun/route_monitor.hh"
#include "tun/routes.hh"
#include "tun/steering.hh"

namespace burin::engine {

class client_worker;
struct client_shared;

// Set up before the workers start, on the main thread; outlives them.
class tun_device {
  public:
    // The device with a queue for each worker, its addresses, and routes into it. An error text for
    // a person, or empty; what was done before the error is undone with the device.
    std::string open(const client_settings&);

    const std::string& name() const noexcept { return _device->name(); }
    // A line that says what there is now.
    std::string describe() const;
    bool udp_superframes() const noexcept { return _device->udp_segmentation_on(); }
    // Once a worker; on its thread.
    tun::descriptor take_queue(unsigned worker) noexcept { return _device->take_queue(worker); }
    // For every socket of the tunnel's own: keeps it from being routed into the tunnel. Any thread.
    relay::socket_hook keep_outside();
    // Links, addresses and routes of this machine: for the main thread to watch.
    tun::route_monitor& monitor() noexcept { return *_monitor; }
    // As of tun::routes; any thread.
    std::optional<tun::way> way_of(int descriptor) { return _routes->way_of(descriptor); }
    bool lost(const tun::way& used) { return _routes->lost(used); }
    bool needs_privilege() const { return _routes->needs_privilege(); }
    // Which worker's queue a flow comes in on; nullptr: the kernel decides, unsteered() says why.
    tun::steering* steering() noexcept { return _steering.get(); }
    const std::string& unsteered() const noexcept { return _unsteered; }

  private:
    void steer(const client_settings&);

    std::optional<tun::device> _device;
    std::unique_ptr<tun::steering> _steering;
    std::string _unsteered;
    std::optional<tun::routes> _routes;
    std::optional<tun::route_monitor> _monitor;
    tun::network_settings _network;
};

// On a worker's thread, and the worker's until it ends.
class tun_intake final : public resident, private relay::tun_uplink {
  public:
    // Throws what tun_queue throws.
    tun_intake(worker&, client_worker&, client_shared&, tun::descriptor queue);
    ~tun_intake() override;

    void session_ready() noexcept { _queue.session_ready(); }
    // From another worker's queue, by mail.
    void adopt(bytes_view frame, unsigned from) noexcept { _queue.adopt(frame, from); }
    void carried(const tun::flow_key& key, unsigned by) noexcept { _queue.carried(key, by); }
    void forget_carried(const tun::flow_key& key, unsigned by) noexcept {
        _queue.forget_carried(key, by);
    }
    // From another worker's intake.
    void hear(const tun::icmp_report& report) noexcept { _queue.hear(report); }

    // ---- resident ----
    void leave() noexcept override { _queue.stop(); }
    void report(std::string& into) const override;
    void count(tally& t) const override { engine::count(t, _queue); }

  private:
    // ---- tun_uplink ----
    ssh::connection* session() noexcept override;
    bool close_means_eof() const noexcept override;
    bool carries_echo() const noexcept override;
    std::uint32_t next_number() noexcept override;
    void on_flow_open(const relay::tun_flow&) noexcept override;
    void on_flow_closed(const relay::tun_flow&) noexcept override;
    void on_flow_refused(const relay::tun_flow&, std::string_view why) noexcept override;
    void on_crowd() noexcept override;
    void on_datagrams_refused(std::string_view target, std::string_view why) noexcept override;
    void on_stray_error(const tun::icmp_report&) noexcept override;
    void on_device_lost(int error) noexcept override;
    void on_stopped() noexcept override;
    unsigned number() const noexcept override { return _worker.index(); }
    unsigned home(const tun::flow_key&) const noexcept override;
    bool comes_in_here(const tun::flow_key&) const noexcept override;
    bool has_session(unsigned worker) const noexcept override;
    unsigned hand_over(bytes_view frame, unsigned to) noexcept override;
    void on_adopted(const tun::flow_key&, unsigned home) noexcept override;
    void on_adopted_closed(const tun::flow_key&, unsigned home) noexcept override;

    worker& _worker;
    client_worker& _client;
    client_shared& _shared;
    relay::tun_queue _queue;
};

}  // namespace burin::engine
