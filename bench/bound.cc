// bench_bound: the bound that the tunnel is held against. Two processes of one thread and one ring
// each move the bytes of TCP streams with the buffers, pools, sizes, ciphers and operations of the
// tunnel, and with nothing else: no SSH, no WebSocket, no channels, no windows, no scheduler.
//
//   bench_bound far HOST PORT                the end in front of the destinations: one near end
//   bench_bound near HOST PORT port LISTEN_HOST LISTEN_PORT TARGET_HOST TARGET_PORT
//                                            the end where streams begin: a forwarded port, or
//   bench_bound near HOST PORT tun DEVICE ADDRESS/BITS ROUTE/BITS
//                                            the TCP of hosts that are routed into a TUN device
//
// socket or TUN -> line:  read, seal (AES-128-GCM, 32 KiB a packet), send (up to 480 KiB)
// line -> socket or TUN:  receive, open in place, write
//
// What may wait is bounded at each end (bound_wire.hh), and one stream that stands still stops the
// others: for that, windows are there, and they cost. Hosts' TCP is ended by the project's own
// terminator (bound_tun.hh). IPv4 only. It protects nothing: keys are constants. Both ends print
// mean sizes on SIGTERM or SIGINT. Status 2: it could not begin, or an operation failed.
#include <sys/signalfd.h>

#include <csignal>
#include <memory>
#include <string_view>

#include "bench/bound_line.hh"
#include "bench/bound_socket.hh"
#include "bench/bound_tun.hh"
#include "ring/clock.hh"

namespace bound {

class end final : private line_events {
  public:
    // `descriptor`: connected to the other end.
    end(int descriptor, role side)
        : _timers(ring::monotonic_now()),
          _line(_ring, descriptor, side, *this),
          _sockets(_ring, _line),
          _side(side) {}

    void forward(const sockaddr_in& listen, const sockaddr_in& target) {
        _target = target;
        _ring.accept(_accept, listen_on(listen));
    }
    void route(tun::descriptor queue) {
        _tun = std::make_unique<tun_side>(_ring, _timers, _line, std::move(queue));
    }

    void run(int signals) {
        _ring.read(_stop, signals, std::as_writable_bytes(std::span(&_signal, 1)));
        flush();  // arms the first receive
        while (!_stopping) turn();
        _line.report();
        if (_tun != nullptr) _tun->report();
    }

  private:
    // The order of engine::worker::turn.
    void turn() noexcept {
        _ring.wait(_tun != nullptr && _tun->pending() ? 0 : _timers.next());
        const ring::microseconds_t now = ring::monotonic_now();
        if (_tun != nullptr) _tun->set_time(now);
        _ring.deliver();
        _timers.advance(now);
        flush();
    }
    void flush() noexcept {
        _sockets.flush_sends();
        _line.flush();
        if (_tun != nullptr) _tun->flush();
        _sockets.flush_receives();
        _sockets.bury();
    }

    void on_accepted(ring::completion c) noexcept {
        if (c.result < 0) die("accept: %s", std::strerror(-c.result));
        auto* s = new socket_stream(_sockets, ++_numbers, c.result);
        _line.send_open(_numbers, _target);
        s->accepted();
        if (!c.more()) die("accept ended");
    }
    void on_open(std::uint32_t number, const sockaddr_in& target) noexcept override {
        if (_side == role::near) die("the far end opened a stream");
        (new socket_stream(_sockets, number, new_socket()))->connect(target);
    }
    void on_over(int error) noexcept override {
        if (error != 0) die("the connection between the ends: %s", std::strerror(error));
        _stopping = true;
    }
    void on_signal(ring::completion) noexcept { _stopping = true; }

    ring::ring _ring;
    ring::timer_wheel _timers;
    line _line;
    sockets _sockets;
    std::unique_ptr<tun_side> _tun;
    role _side;
    sockaddr_in _target{};
    std::uint32_t _numbers = 0;
    signalfd_siginfo _signal{};
    bool _stopping = false;
    ring::member_op<&end::on_accepted> _accept{this};
    ring::member_op<&end::on_signal> _stop{this};
};

int signal_descriptor() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return ::signalfd(-1, &set, SFD_CLOEXEC);
}

int connect_to(const sockaddr_in& address) {
    const int fd = new_socket();
    if (::connect(fd, as_sockaddr(address), sizeof address) != 0)
        die("port %u: %s", ntohs(address.sin_port), std::strerror(errno));
    return fd;
}

int accept_one(const sockaddr_in& address) {
    const int listener = listen_on(address);
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) die("accept: %s", std::strerror(errno));
    ::close(listener);
    return fd;
}

// The device lives as long as its queue does.
tun::descriptor open_tun(const char* name, const char* address, const char* network) {
    const auto own = tun::parse_interface(address);
    if (!own) die("%s", own.error().what.c_str());
    const auto route = tun::parse_network(network);
    if (!route) die("%s", route.error().what.c_str());
    auto device = tun::device::open({.name = name});
    if (!device) die("%s", device.error().what.c_str());
    auto routes = tun::routes::open(device->index(), device->name());
    if (!routes) die("%s", routes.error().what.c_str());
    tun::network_settings set;
    set.addresses = {own.value()};
    set.routes = {route.value()};
    if (const tun::failure bad = routes->apply(set)) die("%s", bad.what.c_str());
    return device->take_queue(0);
}

int run(int argc, char** argv) {
    const std::string_view mode = argc > 1 ? argv[1] : "";
    if (mode == "far" && argc == 4) {
        end far(accept_one(address_of(argv[2], argv[3])), role::far);
        far.run(signal_descriptor());
        return 0;
    }
    const std::string_view way = argc > 4 ? argv[4] : "";
    const bool forwards = way == "port" && argc == 9, routes = way == "tun" && argc == 8;
    if (mode != "near" || (!forwards && !routes))
        die("usage: bench_bound far HOST PORT, or near HOST PORT port LISTEN_HOST LISTEN_PORT "
            "TARGET_HOST TARGET_PORT, or near HOST PORT tun DEVICE ADDRESS/BITS ROUTE/BITS");
    const auto near = std::make_unique<end>(connect_to(address_of(argv[2], argv[3])), role::near);
    if (forwards)
        near->forward(address_of(argv[5], argv[6]), address_of(argv[7], argv[8]));
    else
        near->route(open_tun(argv[5], argv[6], argv[7]));
    near->run(signal_descriptor());
    return 0;
}

}  // namespace bound

int main(int argc, char** argv) {
    try {
        return bound::run(argc, argv);
    } catch (const std::exception& error) {
        bound::die("%s", error.what());
    }
}
