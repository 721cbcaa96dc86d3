<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** What an application knows when it signs somebody in. Only the user is needed. */
final class Login
{
    /**
     * @param string $user the application's id of the user: 1 to 256 bytes of any kind
     * @param list<string> $methods how the user proved it, as in RFC 8176: "pwd", "otp"
     * @param int $level the assurance level reached, 0 to 99
     * @param string $device a label for people. The first 128 bytes are kept
     * @param string $userAgent the browser's own description. The first 512 bytes are kept
     * @param string $address the client's, as the application trusts it. The first 64 bytes are
     *     kept
     * @param float $remember lifetime of the session and its cookie, and its idle timeout, in
     *     seconds; 0: no
     * @param float $lifetime a shorter lifetime, in seconds; 0: that of the Config
     * @param float|null $began when the authentication began, in seconds since 1970 by this host's
     *     clock, at most 24 hours ago. If the user was revoked since, the sign-in is refused.
     *     Default: the beginning of the request
     * @param float|null $authenticated when the user authenticated, if that was earlier: auth_time
     *     of an identity provider
     */
    public function __construct(
        public readonly string $user,
        public readonly array $methods = [],
        public readonly int $level = 0,
        public readonly string $device = '',
        public readonly string $userAgent = '',
        public readonly string $address = '',
        public readonly float $remember = 0,
        public readonly float $lifetime = 0,
        public readonly ?float $began = null,
        public readonly ?float $authenticated = null,
    ) {
    }

    /** Cuts texts that a client sends, and replaces what is not UTF-8. */
    public function principal(): Principal
    {
        $principal = new Principal(
            $this->user, \array_values($this->methods),
            self::cut($this->device, 128), self::cut($this->userAgent, 512), self::cut($this->address, 64),
        );
        $why = $principal->problem() ?? ($this->level < 0 || $this->level > 99 ? 'the level is 0 to 99' : null);
        return $why === null ? $principal : throw new SessionException(Problem::Invalid, "Login: $why");
    }

    private static function cut(string $text, int $most): string
    {
        if (!Text::isUtf8($text)) {
            $text = (string) \json_decode((string) \json_encode($text, JSON_INVALID_UTF8_SUBSTITUTE));
        }
        $text = \substr($text, 0, $most);
        while ($text !== '' && !Text::isUtf8($text)) {
            $text = \substr($text, 0, -1);
        }
        return $text;
    }
}
