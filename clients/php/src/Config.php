<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The settings of a Manager. The default is secure. Names and meaning are those of the Go library's
 * Config. Durations are seconds.
 */
final class Config
{
    public readonly float $idleTimeout;
    public readonly float $firstUseTimeout;

    /**
     * @param float|null $idleTimeout ends a session that is not used for so long. Default: 2 hours,
     *     or the lifetime
     * @param float|null $firstUseTimeout ends a new anonymous session whose token does not come
     *     back. Default: 15 minutes, or the idle timeout
     * @param float $lifetime ends a session so long after its creation
     * @param float $rotateEvery replaces a token that is so old; at least 60. Default: never
     * @param int $maxSize bytes of the names and values of one session, and of one user's data
     * @param float $maxRemember the longest Login::$remember. Default: it is refused
     * @param int $maxPerUser how many sessions a user has at most. Default: no limit
     * @param bool $refuseExtra refuses a sign-in over the limit. Default: the oldest session ends
     * @param list<string> $keepFields what a sign-in keeps of an anonymous session. Other fields
     *     may be planted
     * @param list<Value|Map|Counter|Counters> $userFields what belongs to the user, and joins the
     *     data of the user at sign-in: counts are added, and other values replace those of the
     *     user. Name them in all programs that share the sessions
     * @param float $userDataTimeout deletes the data of a user who does not use it for so long.
     *     Reading it is a use, to within an hour. A change applies to data that is stored for the
     *     first time afterwards. Default: 90 days
     * @param list<string> $keys of 32 random bytes each. The first signs and seals, every key
     *     verifies and opens
     * @param int $unsignedUntil Unix time until which tokens without a signature are accepted, when
     *     the first key is added
     * @param string|null $userKey of the hashes that name users to the store. Never change it
     * @param bool $seal encrypts values and what is known about users
     * @param bool $csrf requires a CSRF token in requests with an unsafe method whose cookie opens
     *     a session
     * @param list<string> $trustedOrigins "https://example.com": sites whose unsafe requests are
     *     accepted
     * @param bool $bearer also accepts tokens from the header "Authorization: Bearer"
     */
    public function __construct(
        ?float $idleTimeout = null,
        ?float $firstUseTimeout = null,
        public readonly float $lifetime = 86400,
        public readonly float $rotateEvery = 0,
        public readonly int $maxSize = 65536,
        public readonly float $maxRemember = 0,
        public readonly int $maxPerUser = 0,
        public readonly bool $refuseExtra = false,
        public readonly array $keepFields = [],
        public readonly array $userFields = [],
        public readonly float $userDataTimeout = 7_776_000,
        public readonly array $keys = [],
        public readonly int $unsignedUntil = 0,
        public readonly ?string $userKey = null,
        public readonly bool $seal = false,
        public readonly bool $csrf = false,
        public readonly array $trustedOrigins = [],
        public readonly bool $bearer = false,
        public readonly Cookie $cookie = new Cookie(),
    ) {
        $this->idleTimeout = $idleTimeout ??= \min(7200, $lifetime);
        $this->firstUseTimeout = $firstUseTimeout ??= \min(900, $idleTimeout);
        $wrong = match (true) {
            $lifetime < 0.001 || $lifetime > 315_360_000 => 'lifetime is 1 ms to 10 years',
            $idleTimeout < 0.001 || $idleTimeout > $lifetime => 'idleTimeout is 1 ms to the lifetime',
            $firstUseTimeout < 0.001 || $firstUseTimeout > $idleTimeout => 'firstUseTimeout is 1 ms to the idleTimeout',
            $rotateEvery !== 0.0 && ($rotateEvery < 60 || $rotateEvery > $lifetime) => 'rotateEvery is 60 seconds to the lifetime, or 0',
            $maxSize < 1 || $maxSize > 16 << 20 => 'maxSize is 1 byte to 16 MiB',
            $maxRemember !== 0.0 && ($maxRemember < $lifetime || $maxRemember > 34_560_000) => 'maxRemember is the lifetime to 400 days, or 0',
            $maxPerUser < 0 || $maxPerUser > 100 => 'maxPerUser is 0 to 100',
            $userFields !== [] && !self::areFields($userFields) => 'userFields has objects of Value, Map, Counter and Counters, no names',
            $userDataTimeout < 0.001 || $userDataTimeout > 315_360_000 => 'userDataTimeout is 1 ms to 10 years',
            $seal && ($keys === [] || $userKey === null) => 'seal requires keys and userKey',
            $unsignedUntil !== 0 && $keys === [] => 'unsignedUntil requires keys',
            $cookie->persistent && $lifetime > 34_560_000 => 'a persistent cookie requires a lifetime of at most 400 days',
            default => null,
        };
        if ($wrong !== null) {
            throw new \InvalidArgumentException("session: Config: $wrong");
        }
    }

    private static function areFields(array $fields): bool
    {
        foreach ($fields as $field) {
            if (!$field instanceof Value && !$field instanceof Map && !$field instanceof Counter && !$field instanceof Counters) {
                return false;
            }
        }
        return true;
    }

    /**
     * Says by the name of each of $userFields whether its counts are added.
     *
     * @internal
     * @return array<array-key, bool>
     */
    public function userFieldKinds(): array
    {
        $kinds = [];
        foreach ($this->userFields as $field) {
            $kinds[$field->name] = $field instanceof Counter || $field instanceof Counters;
        }
        return $kinds;
    }

    /** Hides the keys in dumps. */
    public function __debugInfo(): array
    {
        return ['keys' => \count($this->keys) . ' hidden'];
    }
}
