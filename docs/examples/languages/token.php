<?php
function jobpush_token(string $user, string $secret, int $ttl = 900): string {
    $part = fn(string $text) => rtrim(strtr(base64_encode($text), "+/", "-_"), "=");
    $claims = ["sub" => $user, "iat" => time(), "exp" => time() + $ttl];
    $text = $part('{"alg":"HS256","typ":"JWT"}') . "." . $part(json_encode($claims));
    return $text . "." . $part(hash_hmac("sha256", $text, $secret, true));
}
