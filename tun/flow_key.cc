#include "tun/flow_key.hh"

#include <arpa/inet.h>

namespace burin::tun {

std::string to_text(const flow_address& address) {
    char text[INET6_ADDRSTRLEN];
    const void* bytes = address.is_v4() ? address.bytes.data() + 12 : address.bytes.data();
    inet_ntop(address.is_v4() ? AF_INET : AF_INET6, bytes, text, sizeof text);
    return text;
}

}  // namespace burin::tun
