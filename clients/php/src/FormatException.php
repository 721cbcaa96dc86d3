<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A stored value is not in the format. $wrong is its name.
 *
 * @internal
 */
final class FormatException extends \RuntimeException
{
    public function __construct(public readonly string $wrong, string $why)
    {
        parent::__construct("$wrong: $why");
    }
}
