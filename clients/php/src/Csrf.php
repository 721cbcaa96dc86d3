<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * CSRF tokens. $id is the session's secret, as 22 characters.
 *
 * @internal
 */
final class Csrf
{
    public const HEADER = 'X-CSRF-Token';
    public const FIELD = 'csrf_token';

    /** @param string|null $pad for the test vectors only */
    public static function token(string $id, ?string $pad = null): string
    {
        $pad ??= \random_bytes(18);
        return Text::encode($pad . ($pad ^ self::key($id)));
    }

    public static function isValid(string $id, string $token): bool
    {
        $bytes = \strlen($token) === 48 ? Text::decode($token) : null;
        return $bytes !== null && \hash_equals(self::key($id), \substr($bytes, 0, 18) ^ \substr($bytes, 18));
    }

    private static function key(string $id): string
    {
        return \hash_hkdf('sha256', (string) Text::decode($id), 18, 'coatcheck/1 csrf');
    }
}
