// Who may log in.
#include "core/ssh/authentication_policy.hh"

#include <algorithm>

#include "crypto/random.hh"

namespace burin::ssh {

crypto::secret_bytes login_policy::random_salt() {
    crypto::secret_bytes salt(32);
    crypto::fill_random(salt.span());
    return salt;
}

crypto::sha256_digest login_policy::digest(std::string_view password) const {
    const auto out = crypto::sha256({_salt.view(), as_bytes(password)});
    crypto::wipe_stack();
    return out;
}

void login_policy::add_user(std::string name, crypto::secret_string password) {
    _users.push_back({std::move(name), digest(password.view())});
    _closed = true;
}

void login_policy::add_keys(std::vector<authorized_key> keys) {
    for (authorized_key& key : keys) _keys.push_back(std::move(key));
    _closed = true;
}

bool login_policy::password_is_right(std::string_view user, std::string_view password) const {
    bool right = false;
    const crypto::sha256_digest shown = digest(password);
    for (const entry& known : _users) {
        const bool name = crypto::constant_time_equal(as_bytes(known.name), as_bytes(user));
        const bool word = crypto::constant_time_equal(known.password, shown);
        right |= static_cast<bool>(static_cast<int>(name) & static_cast<int>(word));
    }
    return right;
}

bool login_policy::knows(bytes_view key_blob) const {
    return std::any_of(_keys.begin(), _keys.end(), [key_blob](const authorized_key& key) {
        return std::equal(key.blob.begin(), key.blob.end(), key_blob.begin(), key_blob.end());
    });
}

std::string_view login_policy::methods() const {
    if (_keys.empty()) return "password";
    return _users.empty() ? "publickey" : "publickey,password";
}

}  // namespace burin::ssh
