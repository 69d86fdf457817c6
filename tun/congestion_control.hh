// The laws that a flow's sending may follow, by the names a person gives.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace burin::tun {

enum class congestion_control : std::uint8_t {
    cubic,  // loss is congestion (tcp_congestion.hh)
    bbr,    // the path's bandwidth and round trip are measured (tcp_bbr.hh)
};

inline constexpr std::string_view congestion_names = "cubic or bbr";

constexpr std::string_view to_text(congestion_control law) noexcept {
    return law == congestion_control::bbr ? "bbr" : "cubic";
}

constexpr std::optional<congestion_control> parse_congestion_control(
    std::string_view name) noexcept {
    for (congestion_control law : {congestion_control::cubic, congestion_control::bbr}) {
        if (name == to_text(law)) return law;
    }
    return std::nullopt;
}

}  // namespace burin::tun
