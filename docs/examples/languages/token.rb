require "base64"
require "json"
require "openssl"

def jobpush_token(user, secret, ttl = 900)
  part = ->(text) { Base64.urlsafe_encode64(text, padding: false) }
  claims = { sub: user, iat: Time.now.to_i, exp: Time.now.to_i + ttl }
  text = "#{part.(JSON.generate(alg: "HS256", typ: "JWT"))}.#{part.(JSON.generate(claims))}"
  "#{text}.#{part.(OpenSSL::HMAC.digest("sha256", secret, text))}"
end
