#include "tools/bench/numbers.hh"

#include <cmath>

#include "tests/catch.hh"

using namespace burin::tools::bench;

TEST_CASE("figures have three digits") {
    for (const auto& [value, text] : {std::pair{0.0, "0"},
                                      {1234567.0, "1,234,567"},
                                      {64710.4, "64,710"},
                                      {999.7, "1,000"},
                                      {999.4, "999"},
                                      {127.3, "127"},
                                      {99.96, "100"},
                                      {16.34, "16.3"},
                                      {9.996, "10.0"},
                                      {1.2849, "1.28"},
                                      {0.9996, "1.00"},
                                      {0.6214, "0.621"},
                                      {0.0623, "0.062"},
                                      {0.00042, "0.00042"}})
        CHECK(number_text(value) == text);
    CHECK(number_text(std::nan("")) == "-");
}

TEST_CASE("units suit their figures") {
    CHECK(quantity(16.3e9, "bit/s") == "16.3 Gbit/s");
    CHECK(quantity(999.4e6, "bit/s") == "999 Mbit/s");
    CHECK(quantity(999.9e6, "bit/s") == "1.00 Gbit/s");
    CHECK(quantity(120, "bit/s") == "0.120 kbit/s");
    CHECK(quantity(127, "us") == "127 \xC2\xB5s");
    CHECK(quantity(1280, "us") == "1.28 ms");
    CHECK(quantity(2.5e6, "us") == "2.50 s");
    CHECK(quantity(0.61, "CPU-s/GB") == "0.610 CPU-s/GB");
    CHECK(quantity(3, "<odd>") == "3.00 <odd>");
    CHECK(tick_text(0.5) == "0.5");
    CHECK(tick_text(20) == "20");
    CHECK(tick_text(40000) == "40,000");
    CHECK(share_text(0.5) == "50 %");
    CHECK(share_text(0.9999) == "99.99 %");
}

TEST_CASE("text from outside is text in a page, and does nothing to a terminal") {
    CHECK(html("<script>alert('x' & \"y\")</script>") ==
          "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;");
    CHECK(html("Gr\xC3\xBC\xC3\x9F"
               "e \xE2\x82\xAC \xF0\x9F\x90\x8D") ==
          "Gr\xC3\xBC\xC3\x9F"
          "e \xE2\x82\xAC \xF0\x9F\x90\x8D");
    const std::string gone = "\xEF\xBF\xBD";
    CHECK(clean("a\nb\x1b[2J\x7f") == "a" + gone + "b" + gone + "[2J" + gone);
    CHECK(clean("\xC2\x9B"
                "31m") == gone + "31m");
    // Too long forms, surrogates, beyond the last, cut short (RFC 3629 section 4).
    CHECK(clean("\xC0\xAF") == gone + gone);
    CHECK(clean("\xED\xA0\x80") == gone + gone + gone);
    CHECK(clean("\xF4\x90\x80\x80") == gone + gone + gone + gone);
    CHECK(clean("x\xE2\x82") == "x" + gone + gone);
    CHECK(markdown("a|b\n<i>") == "a\\|b" + gone + "\\<i>");
}
