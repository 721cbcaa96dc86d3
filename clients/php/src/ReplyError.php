<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The server's reply to a command that it refused.
 *
 * @internal
 */
final class ReplyError
{
    public function __construct(public readonly string $message)
    {
    }
}
