<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * What is derived from the application's keys. The first key signs and seals. Every key verifies
 * and opens.
 *
 * @internal
 */
final class Keys
{
    private const NONCE = 12;
    private const TAG = 16;

    /** @var array<string, string> derived keys by "number of the key, purpose" */
    private array $derived = [];

    /**
     * @param list<string> $keys of 32 bytes each
     * @param int $unsignedUntil Unix time until which tokens without a MAC are accepted; 0: never
     */
    public function __construct(
        private readonly array $keys = [],
        private readonly ?string $userKey = null,
        private readonly int $unsignedUntil = 0,
    ) {
        foreach ($keys as $i => $key) {
            self::check($key, "key $i");
            if (\array_search($key, $keys, true) !== $i) {
                throw new \InvalidArgumentException("session: key $i is there twice");
            }
        }
        if ($userKey !== null) {
            self::check($userKey, 'the user key');
        }
    }

    private static function check(string $key, string $name): void
    {
        if (\strlen($key) !== 32) {
            throw new \InvalidArgumentException("session: $name has " . \strlen($key) . ' bytes: a key has 32, from random_bytes');
        }
        if ($key === \str_repeat("\0", 32)) {
            throw new \InvalidArgumentException("session: $name is all zeros: was it never filled in?");
        }
    }

    private function derive(int $i, string $purpose, int $bytes = 32): string
    {
        return $this->derived["$i $purpose"] ??= \hash_hkdf('sha256', $this->keys[$i], $bytes, "coatcheck/1 $purpose");
    }

    // Tokens

    public function sign(string $token): string
    {
        return $this->keys === [] ? '' : $this->mac(0, $token);
    }

    private function mac(int $i, string $token): string
    {
        return \substr(\hash_hmac('sha256', $token, $this->derive($i, 'token'), true), 0, 18);
    }

    /** Reports whether the MAC of a token is valid. A token without a MAC has the empty one. */
    public function verify(string $token, string $mac): bool
    {
        if ($this->keys === []) {
            return true;
        }
        if ($mac === '') {
            return \time() < $this->unsignedUntil;
        }
        $valid = false;
        foreach (\array_keys($this->keys) as $i) {
            $valid = \hash_equals($this->mac($i, $token), $mac) || $valid;
        }
        return $valid;
    }

    // Users

    /** The hash that names a user to the store. */
    public function owner(string $user): string
    {
        $key = \hash_hkdf('sha256', $this->userKey ?? \str_repeat("\0", 32), 32, 'coatcheck/1 user');
        return Text::encode(\substr(\hash_hmac('sha256', $user, $key, true), 0, 16));
    }

    // Sealing. $id is the session's secret, as 22 characters. $name is the name in the hash.

    /** @param string|null $nonce for the test vectors only */
    public function seal(string $id, string $name, string $plain, ?string $nonce = null): string
    {
        $nonce ??= \random_bytes(self::NONCE);
        $sealed = \openssl_encrypt(
            $plain, 'aes-256-gcm', $this->sealKey(0, $id), OPENSSL_RAW_DATA, $nonce, $tag, Text::decode($id) . $name, self::TAG,
        );
        if ($sealed === false) {
            throw new SessionException(Problem::Sealed, "\"$name\" cannot be sealed");
        }
        return '~1' . Text::encode($this->derive(0, 'seal id', 3) . $nonce . $sealed . $tag);
    }

    private function sealKey(int $i, string $id): string
    {
        return $this->derive($i, "seal $id");
    }

    /** Seals a value for another record. A plain one stays plain. */
    public function reseal(string $from, string $to, string $name, string $text): string
    {
        return self::isSealed($text) ? $this->seal($to, $name, $this->open($from, $name, $text)) : $text;
    }

    public static function isSealed(string $text): bool
    {
        return \str_starts_with($text, '~');
    }

    /**
     * Throws Problem::Sealed if the key that a sealed value names is missing. It does not decrypt.
     */
    public function canOpen(string $name, string $text): void
    {
        if (self::isSealed($text) && $this->candidates($text) === []) {
            $what = \str_starts_with($text, '~1') ? 'with a key that Config::$keys lacks' : 'in a form that this program does not know';
            throw new SessionException(Problem::Sealed, "\"$name\" is sealed $what: was a key dropped too early?");
        }
    }

    /** @return list<int> the keys with the id in a sealed value */
    private function candidates(string $text): array
    {
        return \array_values(\array_filter(
            \array_keys($this->keys),
            fn (int $i): bool => \str_starts_with($text, '~1' . Text::encode($this->derive($i, 'seal id', 3))),
        ));
    }

    /** Returns a plain value as it is. */
    public function open(string $id, string $name, string $text): string
    {
        if (!self::isSealed($text)) {
            return $text;
        }
        $this->canOpen($name, $text);
        $box = Text::decode(\substr($text, 2));
        if ($box !== null && \strlen($box) >= 3 + self::NONCE + self::TAG) {
            foreach ($this->candidates($text) as $i) {
                $plain = \openssl_decrypt(
                    \substr($box, 3 + self::NONCE, -self::TAG), 'aes-256-gcm', $this->sealKey($i, $id), OPENSSL_RAW_DATA,
                    \substr($box, 3, self::NONCE), \substr($box, -self::TAG), Text::decode($id) . $name,
                );
                if ($plain !== false) {
                    return $plain;
                }
            }
        }
        throw new SessionException(Problem::Sealed, "\"$name\" does not open");
    }
}
