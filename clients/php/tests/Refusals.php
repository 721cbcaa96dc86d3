<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Problem;
use Coatcheck\Session\SessionException;

/** For tests of what is refused. */
trait Refusals
{
    protected function refused(Problem $problem, callable $call): void
    {
        try {
            $call();
            self::fail("not refused: $problem->name");
        } catch (SessionException $e) {
            self::assertTrue($e->is($problem), $e->getMessage());
        }
    }
}
