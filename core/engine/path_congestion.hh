// The congestion control of the TCP connections between the ends (`--congestion`): the kernel's, by
// name (tcp(7), TCP_CONGESTION). It belongs to the end that sends; each end names its own. Not
// tun/congestion_control.hh, which is about TCP towards hosts of the TUN.
#pragma once

#include <string>
#include <string_view>

namespace burin::engine {

// A name that the kernel could know: 1 to 15 characters of a-z, 0-9, _ and -.
bool sound_congestion_name(std::string_view) noexcept;

// Also for a listening socket, whose connections inherit it. Loads the kernel's module where the
// thread may (CAP_NET_ADMIN). False: errno, ENOENT where there is no such module, EPERM where it is
// not for everybody.
bool set_congestion_control(int descriptor, const std::string& name) noexcept;

// Whether every user may choose it (net.ipv4.tcp_allowed_congestion_control).
bool allowed_to_all(std::string_view name);

// Why a new TCP socket of the calling thread does not take it, for a person who may change that;
// empty: it does.
std::string why_no_congestion_control(const std::string& name);

}  // namespace burin::engine
