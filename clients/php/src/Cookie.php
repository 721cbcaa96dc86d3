<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The session cookie. The default is secure: "__Host-", Secure, HttpOnly, SameSite=Lax. The cookie
 * of anonymous sessions has the name and "-anon", so that an anonymous session never replaces a
 * signed-in one.
 */
final class Cookie
{
    public const ANONYMOUS = '-anon';

    public readonly string $name;

    /**
     * @param bool $persistent keeps the cookie when the browser closes
     * @param bool $insecure leaves out Secure and the prefix "__Host-": for development over plain
     *     HTTP
     */
    public function __construct(
        ?string $name = null,
        public readonly string $path = '/',
        public readonly string $domain = '',
        public readonly string $sameSite = 'Lax',
        public readonly bool $persistent = false,
        public readonly bool $insecure = false,
    ) {
        $this->name = $name ?? ($insecure ? 'session' : '__Host-session');
        if ($name === null && $path === '/' && $domain === '' && $sameSite === 'Lax' && !$insecure) {
            return; // the default is valid, and each request makes one
        }
        $lower = \strtolower($this->name);
        $host = \str_starts_with($lower, '__host-');
        $prefix = $host || \str_starts_with($lower, '__secure-');
        $wrong = match (true) {
            \preg_match('/\A[A-Za-z0-9!#$%&\'*+.^_`|~-]{1,1000}\z/', $this->name) !== 1 => 'the name has other characters than RFC 9110 allows',
            $prefix && $insecure => 'browsers ignore a cookie with this prefix and without Secure',
            !$prefix && !$insecure => 'without the prefix "__Host-" or "__Secure-" another subdomain can plant the cookie',
            $host && ($domain !== '' || $path !== '/') => '"__Host-" allows no domain, and the path "/" only',
            \preg_match('~\A/[\x20-\x3a\x3c-\x7e]{0,1000}\z~', $path) !== 1 => 'the path is not valid',
            \preg_match('~\A(\.?[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*\z~', $domain) !== 1 || \strlen($domain) > 253 => 'the domain is not valid',
            !\in_array($sameSite, ['Lax', 'Strict', 'None'], true) => 'sameSite is Lax, Strict or None',
            $sameSite === 'None' && $insecure => 'browsers ignore SameSite=None without Secure',
            default => null,
        };
        if ($wrong !== null) {
            throw new \InvalidArgumentException("session: Cookie \"$this->name\": $wrong");
        }
    }

    /** The Set-Cookie line. An empty value deletes the cookie. */
    public function line(string $name, string $value, int $maxAge = 0): string
    {
        return "$name=$value; Path=$this->path"
            . ($this->domain === '' ? '' : "; Domain=$this->domain")
            . ($value === '' ? '; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0' : ($maxAge > 0 ? "; Max-Age=$maxAge" : ''))
            . '; HttpOnly' . ($this->insecure ? '' : '; Secure') . "; SameSite=$this->sameSite";
    }
}
