<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The text forms of the format: base64url without padding, hashes of 22 characters, numbers of a
 * fixed width. PHP's own functions accept more than the format does, so each form is checked first.
 *
 * @internal
 */
final class Text
{
    /** Stands for no hash. */
    public const ZERO_HASH = 'AAAAAAAAAAAAAAAAAAAAAA';
    public const MAX_TIME = 253_402_300_799_999;
    public const MAX_DURATION = 0x08637bd05af6;

    public static function encode(string $bytes): string
    {
        return \rtrim(\strtr(\base64_encode($bytes), '+/', '-_'), '=');
    }

    /** Returns null for a text that encode() does not return. */
    public static function decode(string $text): ?string
    {
        $bytes = \base64_decode(\strtr($text, '-_', '+/'), true);
        // Compare, because base64_decode ignores unused bits, and accepts other characters.
        return $bytes !== false && self::encode($bytes) === $text ? $bytes : null;
    }

    /** The hash of a selector or a verifier. */
    public static function hash(string $bytes): string
    {
        return self::encode(\substr(\hash('sha256', $bytes, true), 0, 16));
    }

    /** The last character of a hash has four unused bits. */
    public static function isHash(string $text): bool
    {
        return \preg_match('/\A[A-Za-z0-9_-]{21}[AQgw]\z/', $text) === 1;
    }

    public static function hex(int $n, int $width = 12): string
    {
        return \str_pad(\dechex($n), $width, '0', STR_PAD_LEFT);
    }

    /** Returns null for a text that is no number of the format. */
    public static function number(string $text, int $width = 12, int $most = self::MAX_TIME): ?int
    {
        if (\strlen($text) !== $width || \preg_match('/[^0-9a-f]/', $text) !== 0) {
            return null;
        }
        $n = (int) \hexdec($text);
        return $n <= $most ? $n : null;
    }

    /** Returns the integer that a counter stores, or null for another text. */
    public static function integer(string $text): ?int
    {
        return $text === (string) (int) $text ? (int) $text : null;
    }

    public static function isUtf8(string $text): bool
    {
        return \preg_match('//u', $text) === 1;
    }

    /** Why a name of a field or an entry is not allowed, or null. */
    public static function nameProblem(string $name): ?string
    {
        if (\preg_match('/\A[A-Za-z0-9._-]{1,64}\z/', $name) === 1) {
            return null;
        }
        [$field, $entry] = \explode(':', $name, 2) + [1 => ''];
        return match (true) {
            \preg_match('/\A[A-Za-z0-9._-]{1,64}\z/', $field) !== 1
                => 'a field\'s name has 1 to 64 of a-z A-Z 0-9 . _ -',
            \strlen($entry) > 256 => 'an entry\'s key has at most 256 bytes',
            !self::isUtf8($entry) => 'an entry\'s key is not UTF-8',
            default => null,
        };
    }
}
