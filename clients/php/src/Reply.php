<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Replies of the server that are errors.
 *
 * @internal
 */
final class Reply
{
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
