<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * What the server replies, in forms that this package uses.
 *
 * @internal
 */
final class Reply
{
    /** @return array<array-key, string>|null the names and values of a hash; null for an error */
    public static function pairs(mixed $reply): ?array
    {
        if (!\is_array($reply)) {
            return null;
        }
        $pairs = [];
        for ($i = 0; $i + 1 < \count($reply); $i += 2) {
            $pairs[$reply[$i]] = $reply[$i + 1];
        }
        return $pairs;
    }

    public static function milliseconds(mixed $time): int
    {
        if (!\is_array($time)) {
            throw new SessionException(Problem::Unavailable, $time instanceof ReplyError ? $time->message : 'TIME has no reply');
        }
        return (int) $time[0] * 1000 + \intdiv((int) $time[1], 1000);
    }

    /** @param list<mixed> $reply */
    public static function failure(string $what, array $reply): SessionException
    {
        $detail = \implode(' ', \array_filter($reply, \is_string(...)));
        return new SessionException(Problem::Unavailable, "$what: the server replies: $detail");
    }

    public static function malformed(string $what, FormatException $e): SessionException
    {
        return new SessionException(Problem::Unavailable, "$what is malformed: {$e->getMessage()}", $e);
    }
}
